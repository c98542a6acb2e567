//! PEM as other programs write it: lines of any width, and text around the blocks.
//!
//! By hand, because the parser behind the keys takes one block alone, in lines of 64 characters (70 for OpenSSH).

/// A block: its label, and the block in the form that the parsers take.
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) text: String,
}

/// The blocks of a text, and the lines that are in none. A block without its end is no block.
pub(crate) fn blocks(text: &str) -> (Vec<Block>, Vec<&str>) {
    let (mut blocks, mut around) = (Vec::new(), Vec::new());
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let label = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        let Some(label) = label else {
            around.push(line);
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut rest = lines.clone();
        let mut body = String::new();
        let ended = rest.by_ref().any(|line| {
            let ends = line == end;
            if !ends {
                body.push_str(line);
            }
            ends
        });
        if ended {
            lines = rest;
            blocks.push(Block { label: label.to_owned(), text: wrapped(label, &body, &end) });
        } else {
            around.push(line);
        }
    }
    (blocks, around)
}

fn wrapped(label: &str, body: &str, end: &str) -> String {
    let width = if label.starts_with("OPENSSH") { 70 } else { 64 };
    let mut text = format!("-----BEGIN {label}-----\n");
    for (index, c) in body.chars().filter(|c| !c.is_whitespace()).enumerate() {
        if index > 0 && index % width == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text + "\n" + end + "\n"
}
