//! Parsers of kernel files: bytes in, samples out.
