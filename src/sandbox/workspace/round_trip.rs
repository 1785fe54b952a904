//! Scans and sends real trees to a writer that makes of the messages what init makes of them, and compares.
