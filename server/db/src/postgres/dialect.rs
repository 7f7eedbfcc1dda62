//! The few words in which the engines differ, exchanged in the text of statements and migrations.

use std::borrow::Cow;

/// A piece of SQL text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    /// A keyword or a name without quotes.
    Word(&'a str),
    /// `$7`
    Parameter(&'a str),
    /// White space, comments.
    Space(&'a str),
    /// Literals, quoted names, signs.
    Other(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Token::Word(text)
            | Token::Parameter(text)
            | Token::Space(text)
            | Token::Other(text) => text,
        }
    }

    fn is_word(self, word: &str) -> bool {
        matches!(self, Token::Word(text) if text.eq_ignore_ascii_case(word))
    }
}

struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = self.0;
        let first = rest.chars().next()?;
        let while_true = |test: fn(char) -> bool| {
            rest.char_indices()
                .skip(1)
                .find(|(_, c)| !test(*c))
                .map_or(rest.len(), |(at, _)| at)
        };
        let until = |end: &str, from: usize| {
            rest[from..]
                .find(end)
                .map_or(rest.len(), |at| from + at + end.len())
        };
        let (length, make): (usize, fn(&'a str) -> Token<'a>) = match first {
            c if c.is_whitespace() => (while_true(char::is_whitespace), Token::Space),
            '-' if rest.starts_with("--") => (until("\n", 2), Token::Space),
            '/' if rest.starts_with("/*") => (until("*/", 2), Token::Space),
            // A doubled quote inside begins the next token of the same kind: the text stays whole.
            '\'' => (until("'", 1), Token::Other),
            '"' => (until("\"", 1), Token::Other),
            '$' => (while_true(|c| c.is_ascii_digit()), Token::Parameter),
            c if c.is_alphabetic() || c == '_' => {
                (while_true(|c| c.is_alphanumeric() || c == '_'), Token::Word)
            }
            c if c.is_ascii_digit() => (
                while_true(|c| c.is_alphanumeric() || c == '.'),
                Token::Other,
            ),
            c => (c.len_utf8(), Token::Other),
        };
        let (token, rest) = rest.split_at(length);
        self.0 = rest;
        Some(make(token))
    }
}

/// A statement as this engine takes it.
pub(super) struct Text<'a> {
    pub(super) sql: Cow<'a, str>,
    /// The largest number among `$n`.
    pub(super) parameters: usize,
}

/// `LIKE` of the embedded engine does not tell ASCII capitals from small letters; `ILIKE` on columns
/// of collation "C" does the same. Their escape characters differ unless they are named.
pub(super) fn statement(sql: &str) -> Result<Text<'_>, String> {
    let (mut likes, mut escapes, mut parameters) = (0, 0, 0);
    for token in Tokens(sql) {
        match token {
            Token::Parameter(text) => {
                parameters = parameters.max(text[1..].parse().unwrap_or(0));
            }
            token if token.is_word("LIKE") => likes += 1,
            token if token.is_word("ESCAPE") => escapes += 1,
            _ => {}
        }
    }
    if likes != escapes {
        return Err("every LIKE needs an ESCAPE, whose default differs between the engines".into());
    }
    let sql = if likes == 0 {
        Cow::Borrowed(sql)
    } else {
        let words = Tokens(sql).map(|token| {
            if token.is_word("LIKE") {
                "ILIKE"
            } else {
                token.text()
            }
        });
        Cow::Owned(words.collect())
    };
    Ok(Text { sql, parameters })
}

/// Column types, and table options that only the embedded engine knows. Text is compared and sorted by
/// its bytes whatever the collation of the database is.
pub(super) fn migration(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() + sql.len() / 8);
    let mut depth = 0_usize;
    // Inside of `CREATE TABLE`, behind its closing parenthesis.
    let mut creates_table = false;
    let mut options = false;
    let mut before: [Option<Token<'_>>; 2] = [None, None];
    for token in Tokens(sql) {
        match token {
            Token::Other("(") => depth += 1,
            Token::Other(")") => {
                depth = depth.saturating_sub(1);
                options = creates_table && depth == 0;
            }
            Token::Other(";") => (creates_table, options) = (false, false),
            _ => {}
        }
        if token.is_word("TABLE") && before[1].is_some_and(|token| token.is_word("CREATE")) {
            creates_table = true;
        }
        let casts = before[1].is_some_and(|token| token.is_word("AS"));
        match token {
            Token::Space(_) => {}
            Token::Other(")") => {}
            _ if options => continue,
            _ => {}
        }
        match token {
            token if token.is_word("TEXT") && !casts => out.push_str("TEXT COLLATE \"C\""),
            token if token.is_word("BLOB") => out.push_str("BYTEA"),
            token if token.is_word("INTEGER") => out.push_str("BIGINT"),
            token if token.is_word("REAL") => out.push_str("DOUBLE PRECISION"),
            token => out.push_str(token.text()),
        }
        if !matches!(token, Token::Space(_)) {
            before = [before[1], Some(token)];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_keep_their_text_but_for_like() {
        let plain = "SELECT 'it''s LIKE $9', \"LIKE\" FROM t -- LIKE $8\n WHERE a = $2 AND b = $11";
        let text = statement(plain).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((text.sql.as_ref(), text.parameters), (plain, 11));
        let like = statement("a like $1 ESCAPE '!' AND b NOT LIKE $1 escape '\\'");
        assert_eq!(
            like.map(|text| text.sql.into_owned()),
            Ok("a ILIKE $1 ESCAPE '!' AND b NOT ILIKE $1 escape '\\'".to_owned())
        );
        assert!(statement("a LIKE $1").is_err());
    }

    #[test]
    fn migrations_change_types_and_lose_options() {
        for (ours, theirs) in [
            (
                "CREATE TABLE a (x TEXT NOT NULL DEFAULT 'TEXT', y BLOB, z REAL) STRICT, WITHOUT ROWID;",
                "CREATE TABLE a (x TEXT COLLATE \"C\" NOT NULL DEFAULT 'TEXT', y BYTEA, z DOUBLE PRECISION)   ;",
            ),
            (
                "-- TEXT\nALTER TABLE a ADD COLUMN t TEXT NOT NULL DEFAULT '';",
                "-- TEXT\nALTER TABLE a ADD COLUMN t TEXT COLLATE \"C\" NOT NULL DEFAULT '';",
            ),
            (
                "INSERT INTO a (x) SELECT CAST(n AS TEXT) FROM b WHERE (n > 0) ORDER BY n;",
                "INSERT INTO a (x) SELECT CAST(n AS TEXT) FROM b WHERE (n > 0) ORDER BY n;",
            ),
            (
                "CREATE INDEX i ON a (x) WHERE y = 1; CREATE TABLE b (n INTEGER)",
                "CREATE INDEX i ON a (x) WHERE y = 1; CREATE TABLE b (n BIGINT)",
            ),
        ] {
            assert_eq!(migration(ours), theirs);
        }
    }
}
