//! Messages of the sandbox's resolver: one question in, its answer out. Counts are held to their bounds before anything is
//! decoded.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

/// Bytes of a header.
const HEADER_BYTES: usize = 12;
/// Seconds that an answer may be kept: a name's address does not change.
const TIME_TO_LIVE_S: u32 = 60;
/// Bytes of an answer by datagram, as told to those who say theirs.
const PAYLOAD_BYTES: u16 = 1232;

/// What somebody asked.
#[derive(Debug)]
pub enum Asked {
    /// One question.
    Question(Question),
    /// Something else: the answer is known without a look at it.
    Refused {
        /// Its number.
        id: u16,
        /// The answer.
        answer: Answer,
    },
}

/// One question.
#[derive(Debug)]
pub struct Question {
    metadata: Metadata,
    query: Query,
    extended: bool,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// This is the address.
    Address(Ipv4Addr),
    /// The name exists and has nothing of that type.
    Nothing,
    /// The name does not exist.
    NoSuchName,
    /// It cannot be said now.
    Failed,
    /// The query is malformed.
    Malformed,
    /// Such queries are not answered.
    NotImplemented,
}

impl Question {
    /// The name's parts.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        self.query.name().iter()
    }

    /// Whether an IPv4 address is asked for.
    pub fn is_for_address(&self) -> bool {
        matches!(self.query.query_type(), RecordType::A | RecordType::ANY)
    }
}

/// Reads a query. `None` for what must not be answered: too short, or an answer itself.
pub fn read(bytes: &[u8]) -> Option<Asked> {
    let header = bytes.get(..HEADER_BYTES)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let id = word(0);
    if header[2] & 0x80 != 0 {
        return None;
    }
    if header[2] & 0x78 != 0 {
        return Some(Asked::Refused { id, answer: Answer::NotImplemented });
    }
    // One question, and nothing behind it but options.
    let malformed = Asked::Refused { id, answer: Answer::Malformed };
    if (word(4), word(6), word(8)) != (1, 0, 0) || word(10) > 1 {
        return Some(malformed);
    }
    let Ok(mut message) = Message::from_vec(bytes) else { return Some(malformed) };
    let Some(query) = message.queries.pop() else { return Some(malformed) };
    if query.query_class() != DNSClass::IN {
        return Some(Asked::Refused { id, answer: Answer::NotImplemented });
    }
    Some(Asked::Question(Question { metadata: message.metadata, query, extended: message.edns.is_some() }))
}

/// Writes the answer. `None` if it cannot be written, which no question that was read brings about.
pub fn write(asked: &Asked, answer: Answer) -> Option<Vec<u8>> {
    let code = match answer {
        Answer::Address(_) | Answer::Nothing => ResponseCode::NoError,
        Answer::NoSuchName => ResponseCode::NXDomain,
        Answer::Failed => ResponseCode::ServFail,
        Answer::Malformed => ResponseCode::FormErr,
        Answer::NotImplemented => ResponseCode::NotImp,
    };
    let question = match asked {
        Asked::Refused { id, .. } => return Message::error_msg(*id, OpCode::Query, code).to_vec().ok(),
        Asked::Question(question) => question,
    };
    let mut message = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata = Metadata::response_from_request(&question.metadata);
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.queries.push(question.query.clone());
    if let Answer::Address(address) = answer {
        let name = question.query.name().clone();
        message.answers.push(Record::from_rdata(name, TIME_TO_LIVE_S, RData::A(A(address))));
    }
    if question.extended {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD_BYTES);
        message.edns = Some(edns);
    }
    message.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A query for this name and type, class IN.
    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|it| !it.is_empty()) {
            bytes.push(u8::try_from(label.len()).expect("a label"));
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes
    }

    fn code(bytes: &[u8], answer: Answer) -> (u8, u16) {
        let asked = read(bytes).expect("to be answered");
        let answer = match asked {
            Asked::Refused { answer, .. } => answer,
            Asked::Question(_) => answer,
        };
        let written = write(&asked, answer).expect("an answer");
        assert_eq!(written[..2], bytes[..2], "its number");
        assert_eq!(written[2] & 0x80, 0x80, "an answer");
        (written[3] & 15, u16::from_be_bytes([written[6], written[7]]))
    }

    #[test]
    fn an_address_is_answered_with_the_question_as_it_was_asked() {
        let bytes = query("Api.Example.ORG", 1);
        let asked = read(&bytes).expect("a question");
        let written = write(&asked, Answer::Address([127, 64, 0, 1].into())).expect("an answer");
        assert_eq!(written[HEADER_BYTES..bytes.len()], bytes[HEADER_BYTES..]);
        assert_eq!(written[written.len() - 4..], [127, 64, 0, 1]);
    }

    #[test]
    fn each_answer_has_its_code() {
        let bytes = query("api.example.org", 28);
        assert_eq!(code(&bytes, Answer::Nothing), (0, 0));
        assert_eq!(code(&bytes, Answer::NoSuchName), (3, 0));
        assert_eq!(code(&bytes, Answer::Failed), (2, 0));
    }

    #[test]
    fn what_is_no_plain_question_is_refused() {
        let plain = query("a.example.org", 1);
        let changed = |at: usize, byte: u8| {
            let mut bytes = plain.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(code(&changed(2, 0x28), Answer::Failed), (4, 0), "an update");
        assert_eq!(code(&changed(5, 2), Answer::Failed), (1, 0), "two questions");
        assert_eq!(code(&changed(5, 0), Answer::Failed), (1, 0), "none");
        assert_eq!(code(&changed(7, 1), Answer::Failed), (1, 0), "an answer in it");
        assert_eq!(code(&changed(plain.len() - 1, 3), Answer::Failed), (4, 0), "another class");
        assert_eq!(code(&plain[..plain.len() - 3], Answer::Failed), (1, 0), "cut");
        assert!(read(&changed(2, 0x80)).is_none(), "an answer itself");
        assert!(read(&plain[..11]).is_none(), "too short");
    }

    #[test]
    fn a_name_that_points_at_itself_ends() {
        let mut bytes = query("", 1);
        bytes.splice(12..13, [0xC0, 12]);
        assert_eq!(code(&bytes, Answer::Failed), (1, 0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Some(asked) = read(&bytes) {
                write(&asked, Answer::NoSuchName);
            }
        }

        #[test]
        fn any_bytes_behind_a_sound_header_are_read_without_harm(rest in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
            bytes.extend(rest);
            if let Some(asked @ Asked::Question(_)) = read(&bytes) {
                prop_assert!(write(&asked, Answer::Address([127, 64, 0, 1].into())).is_some());
            }
        }
    }
}
