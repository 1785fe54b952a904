//! Stub until merged.
#![allow(missing_docs)]
#[derive(Clone, Copy)] pub struct OutputLimits { pub bytes: u64, pub entries: u64, pub depth: u64 }
pub struct Extractor;
pub struct Extracted;
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct E;
impl Extractor {
    pub fn new(_: &std::path::Path, _: OutputLimits) -> Result<Self, E> { Ok(Self) }
    pub fn entries(&mut self, _: Vec<aegis_init::wire::Entry>) -> Result<(), E> { Ok(()) }
    pub fn chunk(&mut self, _: &[u8]) -> Result<(), E> { Ok(()) }
    pub fn finish(self, _: aegis_init::wire::OutDone) -> Result<Extracted, E> { Ok(Extracted) }
}
impl Extracted { pub fn into_end(self, _: &[crate::task::OutputRequest], _: &mut crate::record::End) {} }
