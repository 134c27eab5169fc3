//! The output of a background command on its way to its log.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use agentkernel_protocol::{Ending, LOG_FILE, MAX_RECORD, RecordHeader, RecordKind};
use agentkernel_sys::descriptor::{self, Interest};

/// A log, and the pipes that lead to it.
pub(super) struct Log {
    /// Its command's.
    pub number: u32,
    sources: [Option<OwnedFd>; 2],
    files: [File; 2],
    /// Where its command's end is noted, too. There is room for that in it from the start.
    end: File,
    current: usize,
    length: u64,
    /// Whether its command's end is noted.
    ended: bool,
}

impl Log {
    /// Makes the pipes for a command's output and errors, whose other ends come back.
    pub fn open(
        number: u32,
        files: [OwnedFd; 2],
        end: OwnedFd,
    ) -> io::Result<(Self, [OwnedFd; 2])> {
        let (output, to_output) = descriptor::pipe()?;
        let (errors, to_errors) = descriptor::pipe()?;
        for source in [&output, &errors] {
            descriptor::set_nonblocking(source.as_fd())?;
        }
        let sources = [Some(output), Some(errors)];
        let log = Self {
            number,
            sources,
            files: files.map(File::from),
            end: File::from(end),
            current: 0,
            length: 0,
            ended: false,
        };
        Ok((log, [to_output, to_errors]))
    }

    /// What wakes it, for [`carry`](Self::carry).
    pub fn interests(&self) -> [Interest<'_>; 2] {
        self.sources.each_ref().map(|source| match source {
            Some(source) => Interest::readable(source.as_fd()),
            None => Interest::none(),
        })
    }

    /// Whether its command has ended and nobody is left who could write to it.
    pub fn is_over(&self) -> bool {
        self.ended && self.sources.iter().all(Option::is_none)
    }

    /// Carries what one of the pipes holds now.
    pub fn carry(&mut self, which: usize) {
        let mut buffer = [0; MAX_RECORD];
        let Some(source) = &self.sources[which] else { return };
        match descriptor::read(source.as_fd(), &mut buffer) {
            Ok(0) => self.sources[which] = None,
            Ok(read) => {
                self.write([RecordKind::Output, RecordKind::Errors][which], &buffer[..read])
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.sources[which] = None,
        }
    }

    /// Notes the command's end, after all that it has written itself.
    pub fn end(&mut self, ending: Ending) {
        for which in 0..2 {
            self.carry(which);
        }
        self.write(RecordKind::Ended, &ending.encode());
        // Whoever follows the log is woken by this one if a full disk did not take the other. If
        // neither was taken, the end is not known when the sandbox has ended.
        let _ = self.end.write_all_at(&ending.encode(), 0);
        self.ended = true;
    }

    /// What a full disk does not take is lost, for the command must not wait for ever.
    fn write(&mut self, kind: RecordKind, text: &[u8]) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = RecordHeader { kind, length: text.len(), at }.encode();
        let record = [&header[..], text].concat();
        if self.length + record.len() as u64 > LOG_FILE && self.turn().is_err() {
            return;
        }
        match self.files[self.current].write_all(&record) {
            Ok(()) => self.length += record.len() as u64,
            // A record that is there in part would make nonsense of those that follow.
            Err(_) => {
                let file = &mut self.files[self.current];
                let _ = file.set_len(self.length).and_then(|()| file.seek(SeekFrom::End(0)));
            }
        }
    }

    /// Empties the other file and goes on there.
    fn turn(&mut self) -> io::Result<()> {
        let other = &mut self.files[1 - self.current];
        other.set_len(0)?;
        other.rewind()?;
        self.current = 1 - self.current;
        self.length = 0;
        Ok(())
    }
}
