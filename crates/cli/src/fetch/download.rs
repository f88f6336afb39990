//! One file from an address: resumed after a break, checked, and there whole or not at all.
//!
//! What has come is kept in `.NAME.part` beside the file; a later try asks for the rest by `Range`. When all has
//! come, its MD5 must be the known one; then the part is synced and renamed. A part that fails the check is
//! removed; if it was resumed, the whole is fetched once more, since the rest may have been of another file.
//!
//! A server that sends nothing for some time, breaks off, or sends less than it announced is tried again from
//! where it stopped, a few times as long as bytes come. One that sends more than the file can have is an error.
//! The proxy is that of `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`; certificates are checked against
//! the system's.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use md5::{Digest, Md5};
use ureq::tls::{RootCerts, TlsConfig};

/// Tries in a row that bring nothing, at most.
const MOST_TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);
const BUFFER: usize = 1 << 16;

pub struct Downloader {
    agent: ureq::Agent,
}

/// What is to be fetched.
pub struct Download<'a> {
    pub url: &'a str,
    /// In hexadecimal.
    pub md5: &'a str,
    pub most_bytes: u64,
    /// Where to; where it is there already, its MD5 is checked.
    pub path: &'a Path,
}

/// What happens meanwhile.
pub enum Event<'a> {
    Bytes { done: u64, total: Option<u64> },
    Retry(&'a str),
}

/// Why a try ended.
enum Failed {
    /// Another may do better.
    Broken(String),
    /// Another will not.
    Wrong(String),
}

impl Downloader {
    /// `patience` is how long to wait for a server that sends nothing.
    pub fn new(patience: Duration) -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_connect(Some(patience))
            .timeout_resolve(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .http_status_as_error(false)
            .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.into(),
        }
    }

    pub fn fetch(
        &self,
        download: &Download<'_>,
        show: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), String> {
        let Download { url, path, .. } = download;
        let place = |problem: String| format!("{url}: {problem}");
        if path.exists() {
            return match md5_of(path) {
                Ok(found) if found == download.md5 => Ok(()),
                Ok(found) => Err(format!(
                    "{}: expected MD5 {}, found {found}; remove it to fetch it anew",
                    path.display(),
                    download.md5
                )),
                Err(error) => Err(format!("{}: {error}", path.display())),
            };
        }
        let part = part_of(path);
        let mut resumed = length(&part) > 0;
        loop {
            self.complete(download, &part, show).map_err(place)?;
            let found = md5_of(&part).map_err(|error| format!("{}: {error}", part.display()))?;
            if found == download.md5 {
                break;
            }
            let problem = format!("expected MD5 {}, found {found}", download.md5);
            let removed = fs::remove_file(&part);
            removed.map_err(|error| format!("{}: {error}", part.display()))?;
            if !resumed {
                return Err(place(problem));
            }
            // What was there before may have been of another file.
            resumed = false;
            show(Event::Retry(&place(problem)));
        }
        let keep = || {
            File::open(&part)?.sync_all()?;
            fs::rename(&part, path)
        };
        keep().map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Fetches until the server says that this was all.
    fn complete(
        &self,
        download: &Download<'_>,
        part: &Path,
        show: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), String> {
        let mut tries = 0;
        loop {
            let before = length(part);
            match self.go_on(download, part, before, show) {
                Ok(()) => return Ok(()),
                Err(Failed::Wrong(problem)) => {
                    // What is there may be why.
                    let _ = fs::remove_file(part);
                    return Err(problem);
                }
                Err(Failed::Broken(problem)) => {
                    tries = if length(part) > before { 1 } else { tries + 1 };
                    if tries == MOST_TRIES {
                        let kept = length(part);
                        return Err(format!(
                            "{problem}, {MOST_TRIES} times; {kept} bytes are kept, a later fetch goes on there"
                        ));
                    }
                    show(Event::Retry(&format!("{}: {problem}", download.url)));
                    std::thread::sleep(PAUSE * tries);
                }
            }
        }
    }

    /// Asks for what is missing after `have` bytes and appends what comes.
    fn go_on(
        &self,
        download: &Download<'_>,
        part: &Path,
        have: u64,
        show: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failed> {
        let broken = |error: ureq::Error| Failed::Broken(error.to_string());
        let mut request = self.agent.get(download.url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let response = request.call().map_err(broken)?;
        let status = response.status().as_u16();
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let have = match status {
            // The whole again: the server knows no ranges.
            200 => 0,
            206 if have > 0 => {
                let range = header("Content-Range").unwrap_or_default();
                let expected = format!("bytes {have}-");
                if !range.starts_with(&expected) {
                    return Err(Failed::Wrong(format!(
                        "expected the range {expected}…, found `{range}`"
                    )));
                }
                have
            }
            // Nothing follows what is there: its checksum tells whether it is all.
            416 if have > 0 => return Ok(()),
            500..=599 | 408 | 429 => {
                return Err(Failed::Broken(format!("the server answered {status}")));
            }
            _ => {
                return Err(Failed::Wrong(format!(
                    "expected the file, the server answered {status}"
                )));
            }
        };
        let length = header("Content-Length").and_then(|length| length.parse::<u64>().ok());
        let total = length.and_then(|length| have.checked_add(length));
        if total.is_some_and(|total| total > download.most_bytes) {
            return Err(too_long(download));
        }
        let failed = |error: std::io::Error| Failed::Wrong(format!("{}: {error}", part.display()));
        let mut options = OpenOptions::new();
        let options = options
            .write(true)
            .create(true)
            .truncate(have == 0)
            .append(have > 0);
        let mut file = options.open(part).map_err(failed)?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER];
        let mut done = have;
        loop {
            show(Event::Bytes { done, total });
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    file.flush().map_err(failed)?;
                    return Err(Failed::Broken(error.to_string()));
                }
            };
            done += count as u64;
            if done > download.most_bytes {
                return Err(too_long(download));
            }
            file.write_all(&buffer[..count]).map_err(failed)?;
        }
        match total {
            Some(total) if done < total => Err(Failed::Broken(format!(
                "broke off after {done} of {total} bytes"
            ))),
            _ => Ok(()),
        }
    }
}

fn too_long(download: &Download<'_>) -> Failed {
    Failed::Wrong(format!(
        "expected at most {} bytes, found more",
        download.most_bytes
    ))
}

/// Where a file is until all of it has come.
fn part_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn md5_of(path: &Path) -> std::io::Result<String> {
    let (mut file, mut digest) = (File::open(path)?, Md5::new());
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    Ok(digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
