//! The form in which data is printed: one for people, two for programs.

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::terminal::{Style, emit};

/// How a command prints its data.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Output {
    /// Form of the output: for people, or for programs.
    #[arg(long = "output", short = 'o', value_enum, default_value_t = Form::Table, value_name = "FORM")]
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Json,
    Yaml,
}

impl Output {
    /// Prints `data`, or, for people, what `table` makes of it.
    pub(super) fn print<T: Serialize>(self, data: &T, table: impl FnOnce(Style) -> String) -> anyhow::Result<()> {
        emit(&match self.form {
            Form::Table => table(Style::of_stdout()),
            Form::Json => format!("{}\n", serde_json::to_string_pretty(data)?),
            Form::Yaml => serde_yaml::to_string(data)?,
        })
    }
}

/// `1 agent`, `2 agents`.
pub(super) fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Rows below each other, each column as wide as its widest cell; the last one is not filled up. Cells without colour.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut width = [0; N];
    for row in rows {
        for (width, cell) in width.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(width).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}
