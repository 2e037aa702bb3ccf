//! Answers that no bank should give.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Answers every request with so many bytes, and counts them.
fn talkative(bytes: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            // A question without a body ends with an empty line.
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n");
            // Whoever has read enough hangs up.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b' '; bytes]));
        }
    });
    (address, asked)
}

#[tokio::test]
async fn an_answer_that_is_longer_than_any_may_be_is_named_and_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, "5a".repeat(32)).unwrap();
    for (bytes, why) in [
        (wire::MAX_BODY, "its answer is not signed with the shared key"),
        (wire::MAX_BODY + 1, "the answer has more than 2097152 bytes, the most that is read of one"),
    ] {
        let (address, asked) = talkative(bytes);
        let (url, key_file) = (format!("http://{address}"), key_file.clone());
        let bank = HttpBank::new(BankSection { url, key_file, ..BankSection::default() }).unwrap();
        assert_eq!(bank.statement(20_780, None, 10).await.unwrap_err().0, why);
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{why}");
    }
}
