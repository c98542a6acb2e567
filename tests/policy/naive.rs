//! A second implementation of the rules, as plain as can be and on plain JSON, and random policies and agents on which
//! the two must agree.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sekuire_policy::policy::judge;
use sekuire_policy::policy::summary::{Statement, changes};
use serde_json::{Map, Value, json};

use crate::support::{agent, policy};

fn glob(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|n| glob(rest, &text[n..])),
        Some((c, rest)) => text.first() == Some(c) && glob(rest, &text[1..]),
    }
}

fn like(pattern: &str, text: &str) -> bool {
    glob(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
}

fn low(text: &str) -> String {
    text.to_ascii_lowercase()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()).collect()
}

fn like_any(list: &Value, text: &str) -> bool {
    strings(list).iter().any(|p| like(p, text))
}

fn like_any_low(list: &Value, text: &str) -> bool {
    strings(list).iter().any(|p| like(&low(p), &low(text)))
}

/// A host as labels, last first, and whether it stands for everything below it too.
fn labels(host: &str) -> Option<(Vec<String>, bool)> {
    let (wide, host) = if let Some(rest) = host.strip_prefix("*.") { (true, rest) } else { (false, host) };
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut labels: Vec<String> = host.split('.').map(low).collect();
    let ok = |l: &String| {
        !l.is_empty()
            && l.len() < 64
            && l.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if !labels.iter().all(ok) || host.len() > 253 {
        return None;
    }
    if labels.last().unwrap().chars().all(|c| c.is_ascii_digit()) {
        let plain = |l: &String| l.parse::<u8>().is_ok_and(|n| n.to_string() == *l);
        if labels.len() != 4 || !labels.iter().all(plain) {
            return None;
        }
    }
    labels.reverse();
    Some((labels, wide))
}

fn port_off(text: &str) -> Option<&str> {
    match text.split(':').collect::<Vec<_>>()[..] {
        [host] => Some(host),
        [host, port]
            if port.len() <= 5
                && port.chars().all(|c| c.is_ascii_digit())
                && port.parse().is_ok_and(|n: u32| (1..65536).contains(&n)) =>
        {
            Some(host)
        }
        _ => None,
    }
}

fn asked_host(text: &str) -> Option<(Vec<String>, bool)> {
    labels(port_off(text)?)
}

fn asked_endpoint(text: &str) -> Option<(Vec<String>, bool)> {
    let low = low(text);
    let rest = low.strip_prefix("http://").or(low.strip_prefix("https://"))?;
    let authority = rest.split('/').next().unwrap();
    if rest.contains(['\\', ' ']) || authority.contains('@') || authority.starts_with('*') {
        return None;
    }
    labels(port_off(authority)?)
}

fn host_covered(pattern: &str, asked: &(Vec<String>, bool)) -> bool {
    if pattern == "*" {
        return true;
    }
    let (pattern, wide) = labels(pattern).unwrap();
    if wide { asked.0.starts_with(&pattern) } else { !asked.1 && pattern == asked.0 }
}

fn host_overlaps(pattern: &str, asked: &(Vec<String>, bool)) -> bool {
    host_covered(pattern, asked) || (asked.1 && pattern != "*" && labels(pattern).unwrap().0.starts_with(&asked.0))
}

fn resolve(path: &str) -> Option<String> {
    if path.starts_with('~') || path.contains(['*', '$', '\\']) || path.chars().any(char::is_control) {
        return None;
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => drop(parts.pop()),
            ".." if path.starts_with('/') => {}
            other => parts.push(other),
        }
    }
    Some(if path.starts_with('/') { format!("/{}", parts.join("/")) } else { parts.join("/") })
}

fn path_covered(pattern: &str, path: &str) -> bool {
    let directory = match pattern.strip_suffix("/*") {
        Some("") => path == "/",
        Some(directory) => like(directory, path),
        None => false,
    };
    directory || like(pattern, path)
}

/// Everything below a path that could matter: as many parts as the pattern has and one more, each out of the pattern's
/// own parts with their stars filled in, and a letter.
fn block_meets(pattern: &str, path: &str) -> bool {
    let (pattern, path) = (low(pattern), low(path));
    if path == ".." || path.starts_with("../") || path_covered(&pattern, &path) {
        return true;
    }
    if pattern.starts_with('/') && !path.starts_with('/') {
        return true;
    }
    let mut words: Vec<String> = pattern.split('/').map(|p| p.replace('*', "")).collect();
    words.extend(pattern.split('/').map(|p| p.replace('*', "z")));
    words.extend(pattern.split(['/', '*']).map(str::to_owned));
    words.extend(pattern.split(['/', '*']).map(|p| format!("z{p}")));
    words.push("z".to_owned());
    words.retain(|w| !matches!(w.as_str(), "" | "." | ".."));
    words.sort();
    words.dedup();
    let join = |path: &str, word: &str| match path {
        "" => word.to_owned(),
        "/" => format!("/{word}"),
        _ => format!("{path}/{word}"),
    };
    let mut below = vec![path];
    for _ in 0..pattern.split('/').count() {
        below = below.iter().flat_map(|p| words.iter().map(|w| join(p, w))).collect();
        if below.iter().any(|p| path_covered(&pattern, p)) {
            return true;
        }
        if below.len() > 20_000 {
            break;
        }
    }
    false
}

type Found = Vec<(String, String)>;

fn naive(content: &Value, spec: &Value) -> Found {
    let mut found = Found::new();
    let mut add = |rule: &str, field: String| found.push((rule.to_owned(), field));
    let models = &content["agent"]["models"];
    let mut of_agent = vec![("spec.model".to_owned(), spec["model"].clone())];
    for (i, model) in spec["fallbackModels"].as_array().into_iter().flatten().enumerate() {
        of_agent.push((format!("spec.fallbackModels[{i}]"), model.clone()));
    }
    for (place, model) in &of_agent {
        judge_model(models, place, model, &mut add);
    }
    tools(&content["agent"]["capabilities"], &content["tools"], spec, &mut add);
    image(&content["agent"]["images"], spec["image"].as_str(), &mut add);
    compliance(&content["compliance"], &spec["compliance"], &of_agent, &mut add);
    let limits = &content["rate_limits"]["per_agent"];
    for (rule, field) in [("requests_per_minute", "requestsPerMinute"), ("tokens_per_hour", "tokensPerHour")] {
        let (limit, held) = (&limits[rule], &spec["rateLimits"][field]);
        if !limit.is_null() && held.as_u64().is_none_or(|held| held > limit.as_u64().unwrap()) {
            add("rate.exceeded", format!("spec.rateLimits.{field}"));
        }
    }
    network(&content["permissions"]["network"], &spec["permissions"]["network"], &of_agent, &mut add);
    files(&content["permissions"]["filesystem"], &spec["permissions"]["filesystem"], &mut add);
    services(&content["permissions"]["api"], &spec["permissions"]["api"], &mut add);
    found.sort();
    found
}

/// The categories Cc and Cf, and U+2028 and U+2029, as far as the names below have them; and of what is no NFKC the same.
fn can_pass_for_another(name: &str) -> bool {
    let unseen =
        ['\0', '\n', '\t', '\u{7f}', '\u{85}', '\u{ad}', '\u{200b}', '\u{202e}', '\u{feff}', '\u{2028}', '\u{2029}'];
    let not_nfkc = ['\u{212a}', '\u{ff45}', '\u{a0}', '\u{fb01}', '\u{b2}', '\u{301}', '\u{340}'];
    name != name.trim() || name.contains(unseen) || name.contains(not_nfkc)
}

/// What stands behind each `/`, and each `__`.
fn suffixes(name: &str, underscores: bool) -> Vec<String> {
    let chars: Vec<char> = name.chars().collect();
    let mut found = vec![name.to_owned()];
    for i in 0..chars.len() {
        if chars[i] == '/' {
            found.push(chars[i + 1..].iter().collect());
        }
        if underscores && chars[i] == '_' && chars.get(i + 1) == Some(&'_') {
            found.push(chars[i + 2..].iter().collect());
        }
    }
    found
}

fn denied_by(list: &Value, name: &str, underscores: bool) -> bool {
    suffixes(name, underscores).iter().any(|suffix| like_any_low(list, suffix))
}

/// The best entry of the table for an endpoint.
fn table_entry(table: &[Value], endpoint: &str) -> Option<Value> {
    let host = asked_endpoint(endpoint)?;
    let (_, rest) = endpoint.split_once("://").unwrap();
    let path = rest.find('/').map_or("", |slash| &rest[slash..]);
    let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
    let parts: Vec<&str> = if path.len() < 2 { vec![] } else { path[1..].split('/').collect() };
    let odd = path.contains('%') || parts.iter().any(|part| ["", ".", ".."].contains(part));
    let mut best: Option<((usize, usize), Value)> = None;
    for entry in table {
        let pattern = entry["host"].as_str().unwrap();
        if !host_covered(pattern, &host) {
            continue;
        }
        let mut rank = (0, usize::from(!pattern.contains('*')));
        if let Some(prefix) = entry["path_prefix"].as_str() {
            let wanted: Vec<&str> = prefix[1..].split('/').collect();
            let wanted = if wanted.last() == Some(&"") { &wanted[..wanted.len() - 1] } else { &wanted[..] };
            if odd || !parts.starts_with(wanted) {
                continue;
            }
            rank.0 = 1 + wanted.len();
        }
        if best.as_ref().is_none_or(|(than, _)| rank > *than) {
            best = Some((rank, entry.clone()));
        }
    }
    best.map(|(_, entry)| entry)
}

fn judge_model(models: &Value, place: &str, model: &Value, add: &mut impl FnMut(&str, String)) {
    let denied = if models["denied_models"].is_null() { &models["blocked_models"] } else { &models["denied_models"] };
    let (provider, name) = (model["provider"].as_str().unwrap(), model["name"].as_str().unwrap());
    let allowed =
        |provider: &str| models["allowed_providers"].is_null() || like_any_low(&models["allowed_providers"], provider);
    let mut entry = None;
    let mut by_agent = true;
    if let (Some(table), Some(endpoint)) = (models["endpoints"].as_array(), model["endpoint"].as_str()) {
        entry = table_entry(table, endpoint);
        by_agent = false;
        match &entry {
            None => add("endpoint.unknown", format!("{place}.endpoint")),
            Some(entry) if !allowed(entry["provider"].as_str().unwrap()) => {
                add("provider.not_allowed", format!("{place}.endpoint"));
            }
            Some(_) => {}
        }
    }
    if can_pass_for_another(provider) {
        add("name.invalid", format!("{place}.provider"));
    } else if by_agent && !allowed(provider) {
        add("provider.not_allowed", format!("{place}.provider"));
    }
    let of_entry = entry.map(|entry| entry["models"].clone()).unwrap_or_default();
    if can_pass_for_another(name) {
        add("name.invalid", format!("{place}.name"));
    } else if denied_by(denied, name, false) {
        add("model.blocked", format!("{place}.name"));
    } else if !models["allowed_models"].is_null() && !like_any(&models["allowed_models"], name)
        || !of_entry.is_null() && !like_any(&of_entry, name)
    {
        add("model.not_allowed", format!("{place}.name"));
    }
}

fn tools(capabilities: &Value, tools: &Value, spec: &Value, add: &mut impl FnMut(&str, String)) {
    let listed: Vec<String> = tools["allowed_tools"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect();
    let a_list = !capabilities["allowed_tools"].is_null() || !tools["allowed_tools"].is_null();
    let approval = capabilities["require_tool_approval"] == true;
    let nothing_denied =
        strings(&capabilities["denied_tools"]).is_empty() && strings(&tools["blocked_tools"]).is_empty();
    let star = listed.iter().chain(&strings(&capabilities["allowed_tools"])).any(|pattern| pattern == "*");
    let everything = nothing_denied && (star || !a_list && !approval);
    for (i, tool) in spec["tools"].as_array().into_iter().flatten().enumerate() {
        let (name, field) = (tool["name"].as_str().unwrap(), format!("spec.tools[{i}].name"));
        let named = like_any(&capabilities["allowed_tools"], name) || listed.iter().any(|pattern| like(pattern, name));
        if can_pass_for_another(name) {
            add("name.invalid", field);
        } else if denied_by(&capabilities["denied_tools"], name, true) || denied_by(&tools["blocked_tools"], name, true)
        {
            add("tool.blocked", field);
        } else if !everything && like_any_low(&capabilities["broker_tools"], name) {
            add("tool.unbounded", field);
        } else if named {
        } else if approval {
            add("tool.not_approved", field);
        } else if a_list {
            add("tool.not_allowed", field);
        }
        let Some(server) = tool["server"].as_str() else { continue };
        let field = format!("spec.tools[{i}].server");
        if can_pass_for_another(server) {
            add("name.invalid", field);
        } else if denied_by(&capabilities["denied_servers"], server, false) {
            add("server.blocked", field);
        } else if !capabilities["allowed_servers"].is_null() && !like_any(&capabilities["allowed_servers"], server) {
            add("server.not_allowed", field);
        }
    }
}

fn image(rules: &Value, image: Option<&str>, add: &mut impl FnMut(&str, String)) {
    let Some(image) = image else { return };
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let mut parts: Vec<&str> = name.split('/').collect();
    let last = parts.pop().unwrap();
    parts.push(last.split(':').next().unwrap());
    let domain = parts.len() > 1 && (parts[0] == "localhost" || parts[0].contains(['.', ':']));
    if parts.len() == 1 {
        parts.insert(0, "library");
    }
    if !domain {
        parts.insert(0, "docker.io");
    }
    if !rules["allowed_images"].is_null() && !like_any(&rules["allowed_images"], &parts.join("/")) {
        add("image.not_allowed", "spec.image".to_owned());
    }
    let hex = |text: &str| text.len() == 64 && text.chars().all(|c| "0123456789abcdef".contains(c));
    if rules["require_digest"] == true && !digest.and_then(|d| d.strip_prefix("sha256:")).is_some_and(hex) {
        add("image.not_pinned", "spec.image".to_owned());
    }
}

fn compliance(rules: &Value, spec: &Value, models: &[(String, Value)], add: &mut impl FnMut(&str, String)) {
    let declared: BTreeSet<String> = strings(&spec["frameworks"]).iter().map(|f| low(f)).collect();
    for framework in strings(&rules["frameworks"]) {
        if !declared.contains(&low(&framework)) {
            add("compliance.framework_missing", "spec.compliance.frameworks".to_owned());
        }
    }
    if rules["require_audit_logging"] == true && spec["auditLogging"] != true {
        add("compliance.audit_logging_required", "spec.compliance.auditLogging".to_owned());
    }
    for half in ["atRest", "inTransit"] {
        if rules["require_encryption"] == true && spec["encryption"][half] != true {
            add("compliance.encryption_required", format!("spec.compliance.encryption.{half}"));
        }
    }
    if let Some(home) = rules["data_residency"].as_str().map(low) {
        let away = |region: &str| low(region) != home && !low(region).starts_with(&format!("{home}-"));
        let regions = strings(&spec["dataResidency"]);
        if regions.is_empty() {
            add("compliance.residency_violation", "spec.compliance.dataResidency".to_owned());
        }
        for (i, region) in regions.iter().enumerate() {
            if away(region) {
                add("compliance.residency_violation", format!("spec.compliance.dataResidency[{i}]"));
            }
        }
        for (place, model) in models {
            if model["region"].as_str().is_some_and(away) {
                add("compliance.residency_violation", format!("{place}.region"));
            }
        }
    }
    if let Some(days) = rules["retention_days"].as_u64()
        && spec["retentionDays"].as_u64().is_none_or(|d| d < days)
    {
        add("compliance.retention_too_short", "spec.compliance.retentionDays".to_owned());
    }
}

fn network(rules: &Value, spec: &Value, models: &[(String, Value)], add: &mut impl FnMut(&str, String)) {
    if rules.is_null() {
        return;
    }
    let enabled = rules["enabled"] == true;
    let mut asked = Vec::new();
    for (i, host) in strings(&spec["allowedHosts"]).into_iter().enumerate() {
        asked.push((format!("spec.permissions.network.allowedHosts[{i}]"), asked_host(&host)));
    }
    if enabled && rules["require_tls"] == true && !asked.is_empty() && spec["requireTls"] != true {
        add("network.tls_required", "spec.permissions.network.requireTls".to_owned());
    }
    for (place, model) in models {
        if let Some(endpoint) = model["endpoint"].as_str() {
            asked.push((format!("{place}.endpoint"), asked_endpoint(endpoint)));
            if enabled && rules["require_tls"] == true && !low(endpoint).starts_with("https://") {
                add("network.tls_required", format!("{place}.endpoint"));
            }
        }
    }
    for (field, host) in asked {
        let Some(host) = host.filter(|_| enabled) else {
            add(if enabled { "network.invalid" } else { "network.disabled" }, field);
            continue;
        };
        if strings(&rules["blocked_domains"]).iter().any(|p| host_overlaps(p, &host)) {
            add("network.blocked", field);
        } else if !rules["allowed_domains"].is_null()
            && !strings(&rules["allowed_domains"]).iter().any(|p| host_covered(p, &host))
        {
            add("network.not_allowed", field);
        }
    }
}

fn files(rules: &Value, spec: &Value, add: &mut impl FnMut(&str, String)) {
    if rules.is_null() {
        return;
    }
    let enabled = rules["enabled"] == true;
    let paths = strings(&spec["allowedPaths"]);
    for (i, path) in paths.iter().enumerate() {
        let field = format!("spec.permissions.filesystem.allowedPaths[{i}]");
        let Some(path) = resolve(path).filter(|_| enabled) else {
            add(if enabled { "filesystem.invalid" } else { "filesystem.disabled" }, field);
            continue;
        };
        let outside = path == ".." || path.starts_with("../");
        if strings(&rules["blocked_paths"]).iter().any(|p| block_meets(p, &path)) {
            add("filesystem.blocked", field);
        } else if !rules["allowed_paths"].is_null()
            && (outside || !strings(&rules["allowed_paths"]).iter().any(|p| path_covered(p, &path)))
        {
            add("filesystem.not_allowed", field);
        }
    }
    if !enabled || paths.is_empty() || rules["allowed_extensions"].is_null() {
        return;
    }
    let allowed: Vec<String> = strings(&rules["allowed_extensions"]).iter().map(|e| low(e)).collect();
    let extensions = strings(&spec["allowedExtensions"]);
    if extensions.is_empty() {
        add("filesystem.ext_not_allowed", "spec.permissions.filesystem.allowedExtensions".to_owned());
    }
    for (i, extension) in extensions.iter().enumerate() {
        if !allowed.contains(&low(extension)) {
            add("filesystem.ext_not_allowed", format!("spec.permissions.filesystem.allowedExtensions[{i}]"));
        }
    }
}

fn services(rules: &Value, spec: &Value, add: &mut impl FnMut(&str, String)) {
    if rules.is_null() {
        return;
    }
    for (i, service) in spec["services"].as_array().into_iter().flatten().enumerate() {
        let field = format!("spec.permissions.api.services[{i}]");
        if rules["enabled"] != true {
            add("api.disabled", format!("{field}.name"));
            continue;
        }
        let Some(allowed) = rules["allowed_services"].as_array() else { continue };
        let entries: Vec<&Value> = allowed.iter().filter(|a| a["service_name"] == service["name"]).collect();
        if entries.is_empty() {
            add("api.not_allowed", format!("{field}.name"));
        } else if entries.iter().all(|e| !e["endpoints"].is_null()) {
            let open: Vec<String> = entries.iter().flat_map(|e| strings(&e["endpoints"])).collect();
            let asked = strings(&service["endpoints"]);
            if asked.is_empty() {
                add("api.not_allowed", format!("{field}.endpoints"));
            }
            for (j, endpoint) in asked.iter().enumerate() {
                if !open.contains(endpoint) {
                    add("api.not_allowed", format!("{field}.endpoints[{j}]"));
                }
            }
        }
    }
}

fn pick(from: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop::sample::select(from).prop_map(Value::from).boxed()
}

fn some(from: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop::collection::vec(pick(from), 0..4).prop_map(Value::from).boxed()
}

fn flag() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::from).boxed()
}

fn number() -> BoxedStrategy<Value> {
    (0_u64..5).prop_map(Value::from).boxed()
}

fn list(of: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop::collection::vec(of, 0..4).prop_map(Value::from).boxed()
}

/// An object of these members; each may be absent, but for those whose name ends in `!`.
fn object(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| {
            let needed = name.ends_with('!');
            (prop::bool::weighted(0.7), value)
                .prop_map(move |(there, value)| (there || needed).then(|| (name.trim_end_matches('!'), value)))
        })
        .collect();
    members
        .prop_map(|members| {
            Value::Object(members.into_iter().flatten().map(|(n, v)| (n.to_owned(), v)).collect::<Map<_, _>>())
        })
        .boxed()
}

const WORDS: &[&str] = &["a", "A", "ab", "aB", "abc", "b", "ba", "é", "É", "k"];
/// Names with prefixes, and some that can pass for others.
const NAMES: &[&str] = &[
    "a",
    "A",
    "ab",
    "aB",
    "abc",
    "b",
    "ba",
    "é",
    "É",
    "k",
    "b/a",
    "x/B/a",
    "b__a",
    "b___a",
    "_b__a/c",
    "x__b__abc",
    "a/",
    "/a",
    "__",
    "a b",
    "größe",
    " a",
    "a\u{a0}",
    "a\u{200b}",
    "\u{212a}",
    "\u{ff45}",
    "a\0b",
    "a\n",
    "e\u{301}",
    "\u{2028}a",
    "a\u{ad}b",
];
const PATTERNS: &[&str] = &["a", "A*", "*b", "a*c", "*", "b", "*a*", "É", "k", "_a", "B/*", "b__a*", "a *b", "K*"];
/// Patterns that documents without members of the second part may have.
const OLD_PATTERNS: &[&str] = &["a", "A*", "*b", "a*c", "*", "b", "*a*", "É", "k", "\u{212a}", "a*\n", " *"];
const IMAGES: &[&str] = &[
    "a",
    "a:1",
    "b/a",
    "localhost/a",
    "localhost:5000/b/a:1",
    "a.b/a",
    "a.b/c/a@sha256:abababababababababababababababababababababababababababababababab",
    "a:1@sha256:abababababababababababababababababababababababababababababababab",
    "a@sha256:ABababababababababababababababababababababababababababababababab",
    "a@sha256:ab",
    "A.b/a",
    "a.b:80/a",
];
const IMAGE_PATTERNS: &[&str] = &[
    "*",
    "docker.io/*",
    "docker.io/library/a",
    "localhost/*",
    "localhost:5000/*",
    "a.b/*",
    "a.b/c/a",
    "*.b/a",
    "a.b:80/a",
    "docker.io/*/a",
];
const PREFIXES: &[&str] = &["/", "/a", "/a/", "/a/b", "/b", "/A", "/a/../b"];
const HOSTS: &[&str] = &[
    "a.b",
    "A.b.",
    "*.a.b",
    "x.a.b",
    "xa.b",
    "b",
    "*.b",
    "a.b:80",
    "*.x.a.b:1",
    "a.b:",
    "*",
    "a..b",
    "1.2.3.4",
    "1.2.3",
    "u@a.b",
    "https://a.b",
    "a.b:0",
    "*.a.b.",
    "a.b:70000",
    "a.b.:443",
    "a.b:443.",
    "-a.b",
    "1.2.3.04",
];
const HOST_PATTERNS: &[&str] = &["*", "a.b", "*.a.b", "*.B", "b.", "X.A.b", "*.x.a.b", "1.2.3.4", "*.c"];
const ENDPOINTS: &[&str] = &[
    "https://a.b",
    "http://x.a.b:80/v1",
    "HTTPS://A.B./",
    "ftp://a.b",
    "https://u@a.b/",
    "https://a.b/u@c.d",
    "https://a.b\\c",
    "https://*.a.b",
    "https://a.b?x",
    "http://1.2.3.4",
    "https://a.b/ x",
    "b",
    "https://a.b:/",
    "https://a.b/a",
    "https://a.b/a/b",
    "https://a.b/a/b/c?x=/b",
    "https://a.b/ab",
    "https://a.b/a/",
    "https://a.b/a#/b",
    "https://a.b/a//b",
    "https://x.a.b/a/./b",
    "https://x.a.b/b/../a",
    "https://x.a.b/a%2fb",
    "https://x.a.b/A/b",
    "https://a.b//a",
];
const PATHS: &[&str] = &[
    "/", "/a", "/a/", "/a/b", "/A/b", "/a/../b", "//a//b", "/b", "/ab", "/a/b/c", "a", "a/b", ".", "..", "./a", "../a",
    "a/../..", "/..", "/a*", "", "/.a", ".a", "b/..", "/a/bc", "/b/a/c", "~", "~/a", "a~", "/~", "./~", "$a", "/a/$b",
    "a\\b", "/a\0", "/a\u{7f}", "a/\u{85}",
];
const PATH_PATTERNS: &[&str] = &[
    "/*", "/a", "/a/*", "/a*", "*", "a", "a/*", "*/b", "/*/b", "/*/b/*", "/a/b", "*a", "/a*c", "/b/*/c", "**", "/a/**",
    ".*", "/.a", "*.*", "*/*", "/a*/c*",
];
const REGIONS: &[&str] = &["us", "US", "us-east-1", "usa", "eu", "u", "us-"];

/// A content of the first part alone, or of both.
fn content() -> BoxedStrategy<Value> {
    prop_oneof![content_of(false), content_of(true)].boxed()
}

fn content_of(both: bool) -> BoxedStrategy<Value> {
    let patterns = || some(if both { PATTERNS } else { OLD_PATTERNS });
    let beside = |first: Vec<(&'static str, BoxedStrategy<Value>)>,
                  second: Vec<(&'static str, BoxedStrategy<Value>)>| {
        object(if both { first.into_iter().chain(second).collect() } else { first })
    };
    let models = beside(
        vec![("allowed_providers", patterns()), ("allowed_models", patterns()), ("denied_models", patterns())],
        vec![(
            "endpoints",
            list(object(vec![
                ("host!", pick(HOST_PATTERNS)),
                ("provider!", pick(WORDS)),
                ("path_prefix", pick(PREFIXES)),
                ("models", patterns()),
            ])),
        )],
    );
    let models = (models, any::<bool>()).prop_map(|(mut models, sdk)| {
        if let Some(denied) = models.get("denied_models").cloned().filter(|_| sdk) {
            models.as_object_mut().unwrap().remove("denied_models");
            models["blocked_models"] = denied;
        }
        models
    });
    let agent = beside(
        vec![
            ("models", models.boxed()),
            (
                "capabilities",
                beside(
                    vec![
                        ("allowed_tools", patterns()),
                        ("denied_tools", patterns()),
                        ("require_tool_approval", flag()),
                    ],
                    vec![("allowed_servers", patterns()), ("denied_servers", patterns()), ("broker_tools", patterns())],
                ),
            ),
        ],
        vec![
            ("images", object(vec![("allowed_images", some(IMAGE_PATTERNS)), ("require_digest", flag())])),
            ("delegates", object(vec![("allowed_workspaces", patterns())])),
            ("opaque", object(vec![("allowed", flag()), ("accept_declarations", flag())])),
        ],
    );
    let permissions = object(vec![
        (
            "network",
            object(vec![
                ("enabled", flag()),
                ("require_tls", flag()),
                ("allowed_domains", some(HOST_PATTERNS)),
                ("blocked_domains", some(HOST_PATTERNS)),
            ]),
        ),
        (
            "filesystem",
            object(vec![
                ("enabled", flag()),
                ("allowed_paths", some(PATH_PATTERNS)),
                ("blocked_paths", some(PATH_PATTERNS)),
                ("allowed_extensions", some(WORDS)),
            ]),
        ),
        (
            "api",
            object(vec![
                ("enabled", flag()),
                ("allowed_services", list(object(vec![("service_name!", pick(WORDS)), ("endpoints", some(WORDS))]))),
            ]),
        ),
    ]);
    object(vec![
        ("agent", agent),
        (
            "compliance",
            object(vec![
                ("frameworks", some(WORDS)),
                ("require_audit_logging", flag()),
                ("require_encryption", flag()),
                ("data_residency", pick(REGIONS)),
                ("retention_days", number()),
            ]),
        ),
        (
            "tools",
            object(vec![
                (
                    "allowed_tools",
                    list(object(vec![
                        ("name!", pick(if both { PATTERNS } else { OLD_PATTERNS })),
                        ("description", pick(WORDS)),
                    ])),
                ),
                ("blocked_tools", patterns()),
            ]),
        ),
        ("permissions", permissions),
        (
            "rate_limits",
            object(vec![("per_agent", object(vec![("requests_per_minute", number()), ("tokens_per_hour", number())]))]),
        ),
    ])
}

fn spec() -> BoxedStrategy<Value> {
    let model = || {
        object(vec![
            ("provider!", pick(NAMES)),
            ("name!", pick(NAMES)),
            ("region", pick(REGIONS)),
            ("endpoint", pick(ENDPOINTS)),
        ])
    };
    object(vec![
        ("model!", model()),
        ("fallbackModels", list(model())),
        ("tools", list(object(vec![("name!", pick(NAMES)), ("server", pick(NAMES))]))),
        ("image", pick(IMAGES)),
        (
            "compliance",
            object(vec![
                ("frameworks", some(WORDS)),
                ("auditLogging", flag()),
                ("encryption", object(vec![("atRest", flag()), ("inTransit", flag())])),
                ("dataResidency", some(REGIONS)),
                ("retentionDays", number()),
            ]),
        ),
        (
            "permissions",
            object(vec![
                ("network", object(vec![("allowedHosts", some(HOSTS)), ("requireTls", flag())])),
                ("filesystem", object(vec![("allowedPaths", some(PATHS)), ("allowedExtensions", some(WORDS))])),
                (
                    "api",
                    object(vec![("services", list(object(vec![("name!", pick(WORDS)), ("endpoints", some(WORDS))])))]),
                ),
            ]),
        ),
        ("rateLimits", object(vec![("requestsPerMinute", number()), ("tokensPerHour", number())])),
    ])
}

fn both(content: &Value, spec: &Value) -> (Found, Found) {
    let violations = judge(&policy(content.clone()), &agent(spec.clone()));
    let mut ours: Found = violations.into_iter().map(|v| (v.rule.to_owned(), v.field)).collect();
    ours.sort();
    (ours, naive(content, spec))
}

/// The groups of rules that an agent breaks.
fn groups(content: &Value, spec: &Value) -> BTreeSet<&'static str> {
    let violations = judge(&policy(content.clone()), &agent(spec.clone()));
    let group = |rule: &str| match rule.split_once('.').unwrap().0 {
        "provider" | "model" | "endpoint" => "Models",
        "tool" | "server" => "Tools",
        "image" => "Images",
        "compliance" => "Compliance",
        "network" => "Network",
        "filesystem" => "Filesystem",
        "api" => "API",
        "rate" => "Limits",
        _ => "of the agent alone",
    };
    violations.iter().map(|violation| group(violation.rule)).filter(|group| *group != "of the agent alone").collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_agree_with_a_second_implementation(content in content(), spec in spec()) {
        let (ours, theirs) = both(&content, &spec);
        prop_assert_eq!(ours, theirs);
    }

    /// Group by group, since most random agents are refused by most random policies for something.
    #[test]
    fn what_a_new_version_forbids_or_allows_is_said_of_its_group(old in content(), new in content(), spec in spec()) {
        let (before, after) = (groups(&old, &spec), groups(&new, &spec));
        let changes = changes(&old, &new);
        let said = |statements: &[Statement]| statements.iter().map(|s| s.group).collect::<BTreeSet<_>>();
        let (forbidden, allowed) = (said(&changes.newly_forbidden), said(&changes.newly_allowed));
        for group in after.difference(&before) {
            prop_assert!(forbidden.contains(group), "{group} refuses now, and that is not said: {changes:#?}");
        }
        for group in before.difference(&after) {
            prop_assert!(allowed.contains(group), "{group} refused before, and that is not said: {changes:#?}");
        }
        prop_assert!(self::changes(&old, &old).is_empty());
    }

    #[test]
    fn what_a_block_meets_is_what_a_search_below_the_path_finds(
        pattern in "/?[ab*.]{1,3}(/[ab*.]{1,3}){0,2}",
        path in "/?[ab.]{0,2}(/[ab.]{0,2}){0,3}",
    ) {
        let inner = pattern.strip_prefix('/').unwrap_or(&pattern);
        prop_assume!(!inner.split('/').any(|p| matches!(p, "" | "." | "..")));
        for list in ["blocked_paths", "allowed_paths"] {
            let content = json!({"permissions": {"filesystem": {"enabled": true, list: [pattern]}}});
            let spec = json!({
                "model": {"provider": "p", "name": "m"},
                "permissions": {"filesystem": {"allowedPaths": [path]}},
            });
            let (ours, theirs) = both(&content, &spec);
            prop_assert_eq!(ours, theirs);
        }
    }
}
