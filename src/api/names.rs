//! Object names of workspaces.

/// Name of the `WorkspacePolicy` and the `PolicyLedger` of a workspace.
///
/// An id of lower-case letters and digits joined by single underscores becomes itself with `-` for `_`. Any other
/// id is sanitised and gets `.` and 16 hex digits of its BLAKE3, so that no two ids share a name: the first form
/// has no dot.
pub fn object_name(workspace_id: &str) -> String {
    let plain = !workspace_id.is_empty()
        && workspace_id
            .split('_')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    if plain {
        return workspace_id.replace('_', "-");
    }
    let mut safe: String = workspace_id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(200)
        .collect();
    safe = safe.trim_matches('-').to_owned();
    if safe.is_empty() {
        safe.push('x');
    }
    let digest = blake3::hash(workspace_id.as_bytes()).to_hex();
    format!("{safe}.{}", &digest.as_str()[..16])
}

#[cfg(test)]
mod tests {
    use super::object_name;

    #[test]
    fn a_plain_id_becomes_itself_with_dashes() {
        assert_eq!(object_name("ws_xyz789"), "ws-xyz789");
        assert_eq!(object_name("payments"), "payments");
    }

    #[test]
    fn any_other_id_gets_a_digest_so_that_no_two_share_a_name() {
        let names: Vec<String> =
            ["ws-a", "ws_a", "WS_A", "ws__a", "_ws_a", "ws.a", "ws_a_"].iter().map(|id| object_name(id)).collect();
        let distinct: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert!(names[0].starts_with("ws-a."), "{}", names[0]);
    }
}
