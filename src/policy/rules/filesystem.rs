//! `content.permissions.filesystem`: paths and extensions.

use super::{Report, Rule, Section, accepted};
use crate::policy::agent::{AgentSpec, Filesystem};
use crate::policy::path::{Asked, PathPattern};
use crate::policy::words::quoted;

const SECTION: &str = "content.permissions.filesystem";

#[derive(Debug)]
pub(super) struct Rules {
    enabled: bool,
    switch: &'static str,
    allowed: Option<Box<[PathPattern]>>,
    blocked: Box<[PathPattern]>,
    extensions: Option<Box<[Box<str>]>>,
}

impl Rules {
    pub(super) fn compile(section: Section<'_>) -> Rules {
        let paths = |name| section.list(name, |entry| PathPattern::parse(entry.as_str()?));
        Rules {
            enabled: section.flag("enabled"),
            switch: section.switch(SECTION, "content.permissions.filesystem.enabled"),
            allowed: paths("allowed_paths"),
            blocked: paths("blocked_paths").unwrap_or_default(),
            extensions: section.texts("allowed_extensions"),
        }
    }

    pub(super) fn judge(&self, agent: &AgentSpec, report: &mut Report) {
        let Some(asked) = agent.permissions.as_ref().and_then(|p| p.filesystem.as_ref()) else { return };
        for (i, path) in asked.allowed_paths.iter().enumerate() {
            self.path(i, path, report);
        }
        if self.enabled && !asked.allowed_paths.is_empty() {
            self.extensions(asked, report);
        }
    }

    fn path(&self, i: usize, text: &str, report: &mut Report) {
        let field = format_args!("spec.permissions.filesystem.allowedPaths[{i}]");
        if !self.enabled {
            let message = || format!("no file access is allowed, so {} cannot be asked for", quoted(text));
            report.add(Rule::FilesystemDisabled, field, text, self.switch, message);
            return;
        }
        let asked = match Asked::path(text) {
            Ok(asked) => asked,
            Err(fault) => {
                let message = || format!("{} {fault}", quoted(text));
                report.add(Rule::FilesystemInvalid, field, text, SECTION, message);
                return;
            }
        };
        if let Some(i) = self.blocked.iter().position(|block| block.meets(&asked)) {
            let message = || {
                let (path, block) = (quoted(text), quoted(self.blocked[i].as_str()));
                if self.blocked[i].is_absolute() && !asked.is_absolute() {
                    return format!(
                        "{path}, which is relative and could be anywhere, meets the block {block}; ask for an absolute path \
                         beside it"
                    );
                }
                format!(
                    "{path}, which stands for everything below it too, meets the block {block}; ask for narrower paths \
                     beside it"
                )
            };
            let path = format_args!("content.permissions.filesystem.blocked_paths[{i}]");
            report.add(Rule::FilesystemBlocked, field, text, path, message);
            return;
        }
        let Some(allowed) = &self.allowed else { return };
        if !allowed.iter().any(|pattern| pattern.allows(&asked)) {
            let message = || format!("{} is not allowed; {}", quoted(text), accepted(allowed));
            let path = "content.permissions.filesystem.allowed_paths";
            report.add(Rule::FilesystemNotAllowed, field, text, path, message);
        }
    }

    fn extensions(&self, asked: &Filesystem, report: &mut Report) {
        let Some(allowed) = &self.extensions else { return };
        let path = "content.permissions.filesystem.allowed_extensions";
        if asked.allowed_extensions.is_empty() {
            let message = || format!("no extension is declared, which means every extension; {}", accepted(allowed));
            let field = "spec.permissions.filesystem.allowedExtensions";
            report.add(Rule::FilesystemExtNotAllowed, field, "", path, message);
        }
        for (i, extension) in asked.allowed_extensions.iter().enumerate() {
            if allowed.iter().any(|a| a.eq_ignore_ascii_case(extension)) {
                continue;
            }
            let message = || format!("the extension {} is not allowed; {}", quoted(extension), accepted(allowed));
            let field = format_args!("spec.permissions.filesystem.allowedExtensions[{i}]");
            report.add(Rule::FilesystemExtNotAllowed, field, extension, path, message);
        }
    }
}
