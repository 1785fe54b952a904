//! A connection that has become another protocol: bytes both ways, one bounded buffer each. Where an answer may hold a
//! secret, the first one found ends the connection before a byte of it has passed: frames cannot be rewritten unread.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::gateway::inspect::account::Count;
use crate::gateway::inspect::body::Held;
use crate::record::egress::{Failure, Reason, Verdict};
use crate::redact::{Redactor, Stream};

/// Bytes of a buffer.
const BUFFER_BYTES: usize = 16 * 1024;
/// Time without a byte either way.
const IDLE_TIME_MAX: Duration = Duration::from_secs(600);
/// Time for which the beginning of what could be a secret is held back, as far as it is let go at all.
const HELD_TIME: Duration = Duration::from_millis(20);

/// Carries bytes between both sides until one ends.
pub(super) async fn relay(client: OnUpgrade, host: OnUpgrade, redactor: Option<Redactor>, mut held: Held) {
    let (Ok(client), Ok(host)) = tokio::join!(client, host) else { return };
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_host, to_host) = tokio::io::split(TokioIo::new(host));
    let (up, down) = (held.account.up.clone(), held.account.down.clone());
    let stream = redactor.map(|it| it.stream());
    let verdict = tokio::select! {
        // Each side says by its own protocol that it ends: the first end is the end.
        verdict = carry(from_client, to_host, None, up) => verdict,
        verdict = carry(from_host, to_client, stream, down) => verdict,
    };
    held.account.ends(verdict, Some(held.status));
}

async fn carry<R, W>(mut from: R, mut to: W, mut scrubbed: Option<Stream>, count: Count) -> Verdict
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut out = Vec::new();
    loop {
        let can_let_go = scrubbed.as_ref().is_some_and(|it| it.held() > 0 && it.can_let_go());
        let wait = if can_let_go { HELD_TIME } else { IDLE_TIME_MAX };
        let read = match timeout(wait, from.read(&mut buffer)).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => return Verdict::Failed(Failure::Broken),
            Err(_) if can_let_go => {
                if let Some(stream) = &mut scrubbed {
                    stream.let_go(&mut out);
                }
                if write(&mut to, &mut out).await.is_err() {
                    return Verdict::Failed(Failure::Broken);
                }
                continue;
            }
            Err(_) => return Verdict::Failed(Failure::Timeout),
        };
        count.fetch_add(read as u64, Ordering::Relaxed);
        match &mut scrubbed {
            Some(stream) if read == 0 => stream.flush(&mut out),
            Some(stream) => stream.push(&buffer[..read], &mut out),
            None => out.extend_from_slice(&buffer[..read]),
        }
        if scrubbed.as_ref().is_some_and(|it| !it.redactions().is_empty()) {
            return Verdict::Denied(Reason::Credential);
        }
        if write(&mut to, &mut out).await.is_err() {
            return Verdict::Failed(Failure::Broken);
        }
        if read == 0 {
            let _ = timeout(IDLE_TIME_MAX, to.shutdown()).await;
            return Verdict::Allowed;
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(to: &mut W, out: &mut Vec<u8>) -> Result<(), ()> {
    let written = timeout(IDLE_TIME_MAX, async {
        to.write_all(out).await?;
        to.flush().await
    });
    let written = written.await;
    out.clear();
    if matches!(written, Ok(Ok(()))) { Ok(()) } else { Err(()) }
}
