//! Layers that break off, and are gone on with.

use std::thread;
use std::time::{Duration, Instant};

use super::good::*;
use super::server::{Reply, Server};
use super::*;

#[test]
fn what_breaks_off_is_gone_on_with() {
    let good = Good::new();
    let (_, server) = registry(move |request, _| {
        let is_first = is_layer(&good, request) && request.header("range").is_none();
        is_first.then(|| Reply { cut: Some(SIZE / 2), ..good.answer(request) })
    });
    let pulled = pull_from(&server).unwrap();
    assert_eq!(pulled.came, (LAYERS * SIZE) as u64);
    let asked = server.asked("/blobs/");
    let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.header("range")).collect();
    assert_eq!(ranges, vec![format!("bytes={}-", SIZE / 2); LAYERS]);
}

#[test]
fn what_ends_early_with_good_manners_is_gone_on_with() {
    let good = Good::new();
    let (good, server) = registry(move |request, _| {
        let is_first = is_layer(&good, request) && request.header("range").is_none();
        is_first.then(|| Reply::new(200, &good.blob(&request.path).unwrap()[..SIZE / 3]))
    });
    let content = fetch(&from(&server), &Store::new(), &good.part(0)).unwrap();
    assert_eq!(content, good.layers[0]);
    assert_eq!(server.asked("/blobs/").len(), 2);
}

#[test]
fn who_can_send_no_parts_sends_all_of_it_again() {
    for status in [200, 206] {
        let good = Good::new();
        let (good, server) = registry(move |request, number| {
            if number == 0 {
                return Some(Reply { cut: Some(SIZE / 2), ..good.answer(request) });
            }
            let reply = Reply::new(status, good.blob(&request.path).unwrap());
            // Of the status for parts it is another part, and then there is none.
            let of =
                if status == 206 { format!("bytes 0-{}/{SIZE}", SIZE - 1) } else { "none".into() };
            request.header("range").map(|_| reply.with("Content-Range", of))
        });
        let (store, came) = (Store::new(), AtomicU64::new(0));
        let tell = |more| {
            came.fetch_add(more, Ordering::Relaxed);
        };
        let filling = store.images.fill().unwrap();
        let file = from(&server).layer(&filling, &good.part(0), &|| false, &tell).unwrap();
        let mut content = Vec::new();
        file.unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(content, good.layers[0], "{status}");
        // What came twice is told of once.
        assert_eq!(came.into_inner(), SIZE as u64);
    }
}

#[test]
fn what_is_wrong_is_told_with_both_digests_and_never_kept() {
    let good = Good::new();
    let (good, server) = registry(move |request, _| {
        let mut reply = good.answer(request);
        reply.body[SIZE / 2] ^= 1;
        Some(reply)
    });
    let (store, part) = (Store::new(), good.part(0));
    let error = fetch(&from(&server), &store, &part).unwrap_err();
    let mut wrong = good.layers[0].clone();
    wrong[SIZE / 2] ^= 1;
    let said = error.to_string();
    assert!(said.contains(part.digest.as_str()), "{said}");
    assert!(said.contains(Digest::of(&wrong).as_str()), "{said}");
    assert_eq!(server.asked("/blobs/").len(), 1);
    let downloads = store.images.root().join("downloads");
    let left: Vec<_> = fs::read_dir(downloads).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(left.len(), 1);
    assert!(left[0].file_name().to_str().unwrap().ends_with(".part"));
    assert_eq!(left[0].metadata().unwrap().len(), 0);
}

#[test]
fn what_was_begun_wrongly_is_begun_again() {
    for begun in [1000, SIZE, SIZE + 1] {
        let (good, server) = registry(|_, _| None);
        let (store, part) = (Store::new(), good.part(0));
        drop(store.images.fill().unwrap());
        let path = store.images.root().join("downloads").join(part.digest.hex());
        fs::write(path.with_extension("part"), vec![7; begun]).unwrap();
        let content = fetch(&from(&server), &store, &part).unwrap();
        assert_eq!(content, good.layers[0], "{begun}");
        let asked = server.asked("/blobs/").len();
        assert_eq!(asked, if begun == 1000 { 2 } else { 1 }, "{begun}");
        assert!(path.exists());
    }
}

#[test]
fn silence_is_waited_for_only_so_long() {
    let good = Good::new();
    let (good, server) = registry(move |request, _| {
        let drip = Some(Duration::from_secs(60));
        Some(Reply { cut: Some(100), drip, ..good.answer(request) })
    });
    let registry = impatient(&format!("{}/x/y:1", server.host), &anybody(), HASTY);
    let began = Instant::now();
    let error = fetch(&registry, &Store::new(), &good.part(0)).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("nothing came any more; it was tried 5 times"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20));
    let asked = server.asked("/blobs/");
    assert_eq!(asked.last().unwrap().header("range"), Some("bytes=400-"));
}

#[test]
fn who_is_slow_may_take_its_time() {
    let good = Good::of_size(60);
    let answers = good.clone();
    let server = Server::new(move |request| Reply {
        cut: Some(0),
        drip: Some(Duration::from_millis(20)),
        ..answers.answer(request)
    });
    let registry = impatient(&format!("{}/x/y:1", server.host), &anybody(), HASTY);
    let began = Instant::now();
    let content = fetch(&registry, &Store::new(), &good.part(0)).unwrap();
    assert_eq!(content, good.layers[0]);
    assert!(began.elapsed() > HASTY.silence * 2);
    assert_eq!(server.asked("/blobs/").len(), 1);
}

#[test]
fn of_a_registry_that_dies_what_has_come_is_kept() {
    let good = Good::new();
    let (good, server) = registry(move |request, _| {
        let drip = Some(Duration::from_secs(60));
        Some(Reply { cut: Some(SIZE / 2), drip, ..good.answer(request) })
    });
    let (store, registry, part) = (Store::new(), from(&server), good.part(0));
    let came = AtomicU64::new(0);
    let filling = store.images.fill().unwrap();
    let error = thread::scope(|scope| {
        let tell = |more| {
            if came.fetch_add(more, Ordering::Relaxed) + more == SIZE as u64 / 2 {
                server.die();
            }
        };
        let (registry, filling, part) = (&registry, &filling, &part);
        scope
            .spawn(move || registry.layer(filling, part, &|| false, &tell))
            .join()
            .unwrap()
            .unwrap_err()
    });
    let said = error.to_string();
    assert!(said.contains("can't be reached") && said.contains("tried 5 times"), "{said}");
    let path = store.images.root().join("downloads").join(part.digest.hex()).with_extension("part");
    assert_eq!(fs::metadata(path).unwrap().len(), SIZE as u64 / 2);
}

#[test]
fn what_nobody_needs_any_more_is_left() {
    let (good, server) = registry(|_, _| None);
    let (store, part) = (Store::new(), good.part(0));
    let filling = store.images.fill().unwrap();
    let came = AtomicU64::new(0);
    let tell = |more| {
        came.fetch_add(more, Ordering::Relaxed);
    };
    let is_needless = || came.load(Ordering::Relaxed) > 0;
    let left = from(&server).layer(&filling, &part, &is_needless, &tell).unwrap();
    assert!(left.is_none());
    assert!(came.into_inner() < SIZE as u64);
}

#[test]
fn who_breaks_off_at_the_same_place_is_not_asked_for_ever() {
    let good = Good::new();
    let (good, server) = registry(move |request, _| {
        // It sends no parts, either.
        let content = good.blob(&request.path).unwrap();
        Some(Reply { cut: Some(SIZE - 1), ..Reply::new(200, content) })
    });
    let error = fetch(&from(&server), &Store::new(), &good.part(0)).unwrap_err();
    assert!(error.to_string().ends_with("it was tried 5 times"), "{error}");
    // The first brought more than there was.
    assert_eq!(server.asked("/blobs/").len(), 5);
}
