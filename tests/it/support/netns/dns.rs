//! A resolver for the tests: names and their answers, and who asked for what. UDP only; answers are small.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const A: u16 = 1;
const AAAA: u16 = 28;

/// The resolver, on 127.0.0.1:53 of its namespace.
pub struct Dns {
    state: Arc<Mutex<State>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Answers by name: one list of addresses for each query, the last one for all further ones.
    names: BTreeMap<String, Vec<Vec<IpAddr>>>,
    changing: BTreeSet<String>,
    asked: Vec<String>,
}

impl Dns {
    /// Serves in the namespace of the calling thread.
    pub fn serve() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (state, over) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicBool::new(false)));
        let (shared, ended) = (Arc::clone(&state), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut query = [0; 1500];
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
                if let Some(answer) = answer(&query[..length], &shared) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { state, over, thread: Some(thread) }
    }

    /// A name with its addresses, of both families.
    pub fn set(&self, name: &str, addresses: &[&str]) {
        self.set_in_turn(name, &[addresses]);
    }

    /// A name whose answer changes from query to query; the last answer stays. Queries for A and for AAAA count alike.
    pub fn set_in_turn(&self, name: &str, answers: &[&[&str]]) {
        let parsed = answers.iter().map(|it| it.iter().map(|it| it.parse().unwrap()).collect()).collect();
        let mut state = self.state.lock().unwrap();
        state.names.insert(name.to_owned(), parsed);
        if answers.len() > 1 {
            state.changing.insert(name.to_owned());
        }
    }

    /// Names that were asked for, in order, once for each query.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn answer(query: &[u8], state: &Mutex<State>) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let question = query.get(12..at + 4)?;
    let mut state = state.lock().unwrap();
    let name = labels.join(".");
    state.asked.push(name.clone());
    let lives_s = if state.changing.contains(&name) { 0 } else { 60 };
    let addresses = state.names.get_mut(&name).map(|answers| match answers.len() {
        0 | 1 => answers.first().cloned().unwrap_or_default(),
        _ => answers.remove(0),
    });
    let code = if addresses.is_some() { 0 } else { 3 };
    let mut records = Vec::new();
    for address in addresses.unwrap_or_default() {
        let data = match address {
            IpAddr::V4(it) if kind == A => it.octets().to_vec(),
            IpAddr::V6(it) if kind == AAAA => it.octets().to_vec(),
            IpAddr::V4(_) | IpAddr::V6(_) => continue,
        };
        records.push(data);
    }
    let count = u8::try_from(records.len()).unwrap();
    let mut out = vec![query[0], query[1], 0x85, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
    out.extend_from_slice(question);
    for data in records {
        // The name is the question's. An answer that changes lives for no time, so that nobody keeps it.
        out.extend([0xC0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, lives_s, 0, u8::try_from(data.len()).unwrap()]);
        out.extend(data);
    }
    Some(out)
}
