//! `evenkeel data fetch` through the real command.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use common::{evenkeel, run};

const VARIABLES: [&str; 8] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// A proxy that tells the first line of each request and refuses it.
fn proxy() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            tell.send(lines.next().unwrap().unwrap()).unwrap();
            lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .for_each(drop);
            stream
                .write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
        }
    });
    (address, told)
}

#[test]
fn the_proxy_of_the_environment_is_honoured() {
    for (variable, from, expected) in [
        (
            "HTTPS_PROXY",
            "https://data.invalid/mnist",
            "data.invalid:443",
        ),
        ("HTTP_PROXY", "http://data.invalid/mnist", "data.invalid"),
        (
            "ALL_PROXY",
            "https://data.invalid/mnist",
            "data.invalid:443",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (address, told) = proxy();
        let mut command = evenkeel(folder.path());
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command
            .args(["data", "fetch", "mnist", "--from", from, "--patience", "2"])
            .env(variable, address);
        let output = command.output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(
            error.contains(&format!("{from}/train-images-idx3-ubyte.gz: ")),
            "{error}"
        );
        let request = told.try_recv().unwrap();
        assert!(request.contains(expected), "{request}");
    }
}

#[test]
fn unknown_names_are_helped() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, error) = run(folder.path(), &["data", "fetch", "minst"]);
    assert_eq!(code, 2);
    assert!(
        error.contains("mnist") && error.contains("imagenette"),
        "{error}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
