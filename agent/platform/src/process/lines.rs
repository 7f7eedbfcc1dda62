//! Cuts a byte stream into lines of bounded length.

/// Longest line handed on; the rest of a longer one is dropped with a notice.
pub const LINE_BYTES_MAX: usize = 8192;

/// Takes the pieces that a pipe brings and hands on lines.
#[derive(Debug, Default)]
pub struct LineSplitter {
    line: Vec<u8>,
    /// Bytes of the present line that did not fit.
    dropped: usize,
}

impl LineSplitter {
    /// Hands on every line that ends in this piece.
    pub fn push(&mut self, mut piece: &[u8], on_line: &mut dyn FnMut(&str)) {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            self.keep(&piece[..end]);
            self.emit(on_line);
            piece = &piece[end + 1..];
        }
        self.keep(piece);
    }

    /// Emits a last line without a newline.
    pub fn finish(&mut self, on_line: &mut dyn FnMut(&str)) {
        if !self.line.is_empty() {
            self.emit(on_line);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.line.len();
        let kept = bytes.len().min(room);
        self.line.extend_from_slice(&bytes[..kept]);
        self.dropped = self.dropped.saturating_add(bytes.len() - kept);
    }

    fn emit(&mut self, on_line: &mut dyn FnMut(&str)) {
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        let text = String::from_utf8_lossy(&self.line);
        if self.dropped > 0 {
            on_line(&format!("{text} [{} more bytes cut]", self.dropped));
        } else {
            on_line(&text);
        }
        self.line.clear();
        self.dropped = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut splitter = LineSplitter::default();
        for piece in pieces {
            splitter.push(piece, &mut |line| lines.push(line.to_owned()));
        }
        splitter.finish(&mut |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_are_joined_over_pieces() {
        assert_eq!(split(&[b"a", b"b\r\n\nc", b"d"]), ["ab", "", "cd"]);
        assert_eq!(split(&[b"x\n"]), ["x"]);
        assert_eq!(split(&[b"\xff\n"]), ["\u{fffd}"]);
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_one_past_it_is_cut() {
        let at = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(split(&[&at, b"\n"])[0].len(), LINE_BYTES_MAX);
        let lines = split(&[&at, b"yz\nnext\n"]);
        assert!(
            lines[0].ends_with("[2 more bytes cut]"),
            "{}",
            lines[0].len()
        );
        assert_eq!(lines[1], "next");
    }

    proptest::proptest! {
        #[test]
        fn cutting_the_stream_anywhere_gives_the_same_lines(text in "[a-c\n]{0,60}", cut in 0usize..60) {
            let cut = cut.min(text.len());
            let (head, tail) = text.as_bytes().split_at(cut);
            proptest::prop_assert_eq!(split(&[head, tail]), split(&[text.as_bytes()]));
        }
    }
}
