//! Fetching from a local server that does what servers do: stalls, cuts off, lies about length, sends other
//! content, knows no ranges.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use md5::{Digest, Md5};

use super::download::{Download, Downloader, Event};
use super::{KNOWN, place, unpack};

/// What the server does with a request, one after another; then it serves.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// The whole, whatever range was asked for.
    IgnoreRange,
    /// The first half of what it announces, then nothing for longer than anybody waits.
    Stall,
    /// The first half of what it announces, then the end of the connection.
    CutOff,
    /// Half of the file, announced as if it were all.
    HalfAsWhole,
    /// More than a file can have, announced so.
    Announce(u64),
    /// No length, and bytes without an end.
    Endless,
    /// Other bytes.
    Other,
    /// The range from another byte on.
    WrongRange,
    /// An answer of this status.
    Status(u16),
}

/// A server of one file, and where it is fetched to.
struct Scene {
    folder: tempfile::TempDir,
    content: Vec<u8>,
    address: String,
    /// The first bytes that were asked for.
    asked: Arc<Mutex<Vec<u64>>>,
}

const MOST_BYTES: u64 = 1 << 20;

impl Scene {
    fn new(acts: &[Act]) -> Self {
        let content: Vec<u8> = (0..100_000_u32).map(|i| (i * i / 7) as u8).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/file.gz", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let scene = Self {
            folder: tempfile::tempdir().unwrap(),
            content: content.clone(),
            address,
            asked: Arc::clone(&asked),
        };
        let acts = Arc::new(Mutex::new(VecDeque::from(acts.to_vec())));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (content, acts, asked) =
                    (content.clone(), Arc::clone(&acts), Arc::clone(&asked));
                thread::spawn(move || answer(stream.unwrap(), &content, &acts, &asked));
            }
        });
        scene
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("file.gz")
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join(".file.gz.part")
    }

    /// The result, and what was told meanwhile.
    fn fetch(&self) -> (Result<(), String>, Vec<String>) {
        let md5: String = Md5::digest(&self.content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut told = Vec::new();
        let download = Download {
            url: &self.address,
            md5: &md5,
            most_bytes: MOST_BYTES,
            path: &self.path(),
        };
        let result = Downloader::new(Duration::from_secs(1)).fetch(&download, &mut |event| {
            if let Event::Retry(problem) = event {
                told.push(problem.to_owned());
            }
        });
        (result, told)
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }

    /// Fetches and expects the file, alone in its folder.
    fn expect_file(&self) -> Vec<String> {
        let (result, told) = self.fetch();
        assert_eq!(result, Ok(()), "{told:?}");
        assert_eq!(fs::read(self.path()).unwrap(), self.content);
        assert_eq!(fs::read_dir(self.folder.path()).unwrap().count(), 1);
        told
    }

    fn expect_error(&self, problem: &str) {
        let (result, _) = self.fetch();
        let error = result.unwrap_err();
        assert!(
            error.starts_with(&self.address) && error.contains(problem),
            "{error}"
        );
        assert!(!self.path().exists());
    }
}

fn answer(
    mut stream: TcpStream,
    whole: &[u8],
    acts: &Mutex<VecDeque<Act>>,
    asked: &Mutex<Vec<u64>>,
) -> Option<()> {
    let mut from = 0;
    for line in BufReader::new(stream.try_clone().ok()?).lines() {
        let line = line.ok()?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok()?;
        }
    }
    asked.lock().unwrap().push(from);
    let act = acts.lock().unwrap().pop_front();
    let from = if matches!(act, Some(Act::IgnoreRange)) {
        0
    } else {
        from as usize
    };
    if from >= whole.len() {
        return stream
            .write_all(b"HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n")
            .ok();
    }
    let rest = &whole[from..];
    let half = &rest[..rest.len() / 2];
    let head = |length: u64| {
        let (all, last) = (whole.len(), whole.len() - 1);
        let first = from + usize::from(matches!(act, Some(Act::WrongRange)));
        let range = match from {
            0 => "HTTP/1.1 200 OK".to_owned(),
            _ => format!("HTTP/1.1 206 Part\r\nContent-Range: bytes {first}-{last}/{all}"),
        };
        format!("{range}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    let (head, body) = match act {
        None | Some(Act::IgnoreRange | Act::WrongRange) => (head(rest.len() as u64), rest.to_vec()),
        Some(Act::Stall | Act::CutOff) => (head(rest.len() as u64), half.to_vec()),
        Some(Act::HalfAsWhole) => (head(half.len() as u64), half.to_vec()),
        Some(Act::Announce(length)) => (head(length), rest.to_vec()),
        Some(Act::Endless) => (
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".into(),
            Vec::new(),
        ),
        Some(Act::Other) => (head(rest.len() as u64), vec![0; rest.len()]),
        Some(Act::Status(status)) => (
            format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"),
            Vec::new(),
        ),
    };
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()?;
    match act {
        Some(Act::Stall) => thread::sleep(Duration::from_secs(10)),
        // As long as somebody reads, and no longer than a test may.
        Some(Act::Endless) => (0..4096)
            .try_for_each(|_| stream.write_all(&[7; 1 << 16]))
            .ok()?,
        _ => {}
    }
    Some(())
}

#[test]
fn all_are_sources() {
    for known in &KNOWN {
        let (kind, inside) = known.source;
        let source = format!("{kind}:{}", place("data".as_ref(), inside).display());
        assert!(
            source.parse::<evenkeel_lab::data::Source>().is_ok(),
            "{source}"
        );
        for file in known.files {
            assert!(file.md5.len() == 32 && file.md5.bytes().all(|c| c.is_ascii_hexdigit()));
            assert_eq!(unpack::is_archive(file.name), !inside.is_empty());
        }
    }
}

#[test]
fn a_good_server_gives_the_file_once() {
    let scene = Scene::new(&[]);
    assert!(scene.expect_file().is_empty());
    // What is there is checked and not fetched again.
    scene.expect_file();
    assert_eq!(scene.asked(), [0]);
    fs::write(scene.path(), "other").unwrap();
    let error = scene.fetch().0.unwrap_err();
    assert!(
        error.contains("file.gz: expected MD5") && error.contains("remove it"),
        "{error}"
    );
}

#[test]
fn a_break_is_resumed_where_it_was() {
    for act in [Act::CutOff, Act::Stall] {
        let scene = Scene::new(&[act, act]);
        let told = scene.expect_file();
        assert_eq!(told.len(), 2, "{act:?}: {told:?}");
        assert_eq!(scene.asked(), [0, 50_000, 75_000], "{act:?}");
    }
    // Of a server that knows no ranges all is taken again.
    let scene = Scene::new(&[Act::CutOff, Act::IgnoreRange]);
    scene.expect_file();
    assert_eq!(scene.asked(), [0, 50_000]);
    let scene = Scene::new(&[Act::Status(503), Act::Status(429)]);
    assert_eq!(scene.expect_file().len(), 2);
}

#[test]
fn a_later_fetch_goes_on_with_what_was_kept() {
    let scene = Scene::new(&[Act::Status(500); 4]);
    fs::write(scene.part(), &scene.content[..30_000]).unwrap();
    scene.expect_error("500, 4 times; 30000 bytes are kept");
    scene.expect_file();
    assert_eq!(scene.asked(), [30_000; 5]);
    // All was there but its name.
    let scene = Scene::new(&[]);
    fs::write(scene.part(), &scene.content).unwrap();
    scene.expect_file();
    assert_eq!(scene.asked(), [100_000]);
}

#[test]
fn a_part_of_another_file_is_fetched_anew() {
    let scene = Scene::new(&[]);
    fs::write(scene.part(), vec![0; 30_000]).unwrap();
    let told = scene.expect_file();
    assert!(told[0].contains("expected MD5"), "{told:?}");
    assert_eq!(scene.asked(), [30_000, 0]);
    // Longer than the file.
    let scene = Scene::new(&[]);
    fs::write(scene.part(), vec![0; 200_000]).unwrap();
    scene.expect_file();
    assert_eq!(scene.asked(), [200_000, 0]);
}

#[test]
fn lies_are_errors() {
    for (acts, problem) in [
        (&[Act::Other][..], "expected MD5"),
        (&[Act::HalfAsWhole], "expected MD5"),
        (
            &[Act::Announce(MOST_BYTES + 1)],
            "expected at most 1048576 bytes, found more",
        ),
        (
            &[Act::Endless],
            "expected at most 1048576 bytes, found more",
        ),
        (
            &[Act::CutOff, Act::WrongRange],
            "expected the range bytes 50000-…, found `bytes 50001-",
        ),
        (&[Act::Status(404)], "the server answered 404"),
        (&[Act::Status(403)], "the server answered 403"),
    ] {
        let scene = Scene::new(acts);
        scene.expect_error(problem);
        assert!(!scene.part().exists(), "{acts:?}");
    }
    // Announced too long, but not longer than it may be: the rest never comes, however often it is asked for.
    let scene = Scene::new(&[Act::Announce(200_000); 8]);
    let (result, _) = scene.fetch();
    assert_eq!(result, Ok(()), "the file itself is whole");
}

#[test]
fn archives_stay_inside_their_folder() {
    let gzipped = |members: &[(&str, &[u8], tar::EntryType)]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes, kind) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            // As it is: the library would refuse to write such names.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&builder.into_inner().unwrap()).unwrap();
        encoder.finish().unwrap()
    };
    let file = tar::EntryType::Regular;
    let unpacked = |bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("a.tgz");
        fs::write(&archive, bytes).unwrap();
        let inner = folder.path().join("set");
        let result = unpack::unpack(&archive, folder.path(), &inner);
        assert_eq!(inner.exists(), result.is_ok());
        assert!(!folder.path().join(".unpacking").exists());
        result.map(|()| fs::read(inner.join("a/x.bin")).unwrap())
    };
    let good = gzipped(&[
        ("set/", b"", tar::EntryType::Directory),
        ("./set/a/x.bin", b"content", file),
    ]);
    assert_eq!(unpacked(&good).unwrap(), b"content");
    for (members, problem) in [
        (
            &[("set/../../x", &b"x"[..], file)][..],
            "expected a path inside",
        ),
        (&[("/set/x", b"x", file)], "expected a path inside"),
        (
            &[("set/x", b"", tar::EntryType::Symlink)],
            "expected files and folders, found Symlink",
        ),
        (&[("set/x", b"x", file), ("set/x", b"y", file)], "set/x: "),
        (&[("other/x", b"x", file)], "expected a folder set in it"),
    ] {
        let error = unpacked(&gzipped(members)).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
    for length in [0, 1, good.len() / 2, good.len() - 9] {
        assert!(unpacked(&good[..length]).is_err(), "{length} bytes");
    }
}
