//! What is tried with every input. Each body panics where a promise of the protocol is broken, and
//! returns how much of the input had a meaning, by which a caller sees that it tries something.

use std::fmt::Debug;

use agentkernel_protocol::{
    Decoder, Ending, FrameError, FromAgent, LongDecoder, RECORD_HEADER, RecordHeader, ToAgent,
};

/// A stream of what an agent says: the same however it is cut, and nothing but what was said.
pub fn from_agent(input: &[u8]) -> usize {
    let read = |stream: &[u8], cut| {
        let mut decoder = Decoder::default();
        read(stream, cut, |chunk| decoder.next(chunk, FromAgent::parse))
    };
    let encode = |message: &FromAgent| message.encode().as_bytes().to_vec();
    stream_holds(input, read, encode)
}

/// The same for a stream of what an agent hears.
pub fn to_agent(input: &[u8]) -> usize {
    let read = |stream: &[u8], cut| {
        let mut decoder = LongDecoder::default();
        read(stream, cut, |chunk| decoder.next(chunk, ToAgent::parse))
    };
    let encode = |message: &ToAgent| match message.encode() {
        Ok(bytes) => bytes,
        Err(error) => panic!("{message:?} was read and can't be said: {error}"),
    };
    stream_holds(input, read, encode)
}

/// A log, record by record: a header and an ending that are read are what was written.
pub fn log(input: &[u8]) -> usize {
    let (mut rest, mut read) = (input, 0);
    while let Some((bytes, after)) = rest.split_first_chunk::<RECORD_HEADER>() {
        let Some(header) = RecordHeader::parse(bytes) else { return read };
        assert_eq!(header.encode(), *bytes, "{header:?}");
        read += 1;
        let Some((text, next)) = after.split_at_checked(header.length) else { return read };
        if let Some(ending) = Ending::parse(text) {
            assert_eq!(ending.encode(), *text, "{ending:?}");
        }
        rest = next;
    }
    read
}

type Read<M> = (Vec<M>, Option<FrameError>);

/// The first byte says how the rest, a stream, is cut.
fn stream_holds<M: Debug + PartialEq>(
    input: &[u8],
    read: impl Fn(&[u8], usize) -> Read<M>,
    encode: impl Fn(&M) -> Vec<u8>,
) -> usize {
    let Some((cut, stream)) = input.split_first() else { return 0 };
    let (messages, error) = read(stream, stream.len().max(1));
    let again = read(stream, usize::from(*cut).max(1));
    assert_eq!(again, (messages, error), "in pieces of {cut} bytes and in one");
    let said: Vec<u8> = again.0.iter().flat_map(encode).collect();
    assert!(stream.starts_with(&said), "{:?} was read where something else was said", again.0);
    again.0.len()
}

/// All messages of a stream, up to its end or its first mistake.
fn read<M>(
    stream: &[u8],
    cut: usize,
    mut next: impl FnMut(&mut &[u8]) -> Result<Option<M>, FrameError>,
) -> Read<M> {
    let mut messages = Vec::new();
    for mut chunk in stream.chunks(cut) {
        while !chunk.is_empty() {
            match next(&mut chunk) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => assert!(chunk.is_empty(), "{} bytes were left lying", chunk.len()),
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}
