//! Rules at their edges, beyond the vectors: which rules, at which fields, by which entry of the policy.

use sekuire_policy::policy::judge;
use serde_json::{Value, json};

use crate::support::{agent, policy};

/// Each violation as `rule field policyPath`.
fn judged(content: Value, mut spec: Value) -> Vec<String> {
    if spec.get("model").is_none() {
        spec["model"] = json!({"provider": "p", "name": "m"});
    }
    judge(&policy(content), &agent(spec))
        .iter()
        .map(|v| format!("{} {} {}", v.rule, v.field, v.policy_path).trim_end().to_owned())
        .collect()
}

fn network(policy: Value, hosts: &[&str]) -> Vec<String> {
    let content = json!({"permissions": {"network": policy}});
    let found = judged(content, json!({"permissions": {"network": {"allowedHosts": hosts, "requireTls": true}}}));
    short(&found, "spec.permissions.network.allowedHosts")
}

fn files(policy: Value, paths: &[&str]) -> Vec<String> {
    let content = json!({"permissions": {"filesystem": policy}});
    let found = judged(content, json!({"permissions": {"filesystem": {"allowedPaths": paths}}}));
    short(&found, "spec.permissions.filesystem.allowedPaths")
}

/// `blocked[3]` for `….blocked …[3] …`.
fn short(found: &[String], field: &str) -> Vec<String> {
    let short = |line: &String| {
        let mut words = line.split(' ');
        let rule = words.next().unwrap().split('.').nth(1).unwrap();
        format!("{rule}{}", words.next().unwrap().strip_prefix(field).unwrap())
    };
    found.iter().map(short).collect()
}

#[test]
fn the_place_in_the_policy_is_the_entry_that_refuses() {
    let content = json!({
        "agent": {
            "models": {"allowed_providers": ["a"], "blocked_models": ["x", "m*"]},
            "capabilities": {"denied_tools": ["q", "t*"], "allowed_tools": ["u"]},
        },
        "tools": {"blocked_tools": ["s*"], "allowed_tools": [{"name": "v"}]},
        "compliance": {"frameworks": ["a", "b"], "require_encryption": true, "data_residency": "us"},
        "permissions": {
            "network": {"enabled": true, "require_tls": true, "blocked_domains": ["a.b", "c.d"]},
            "filesystem": {"enabled": true, "allowed_paths": [], "blocked_paths": ["/a", "/b"]},
            "api": {"enabled": true, "allowed_services": [{"service_name": "s", "endpoints": ["e"]}, {"service_name": "t"}]},
        },
        "rate_limits": {"per_agent": {"tokens_per_hour": 3}},
    });
    let spec = json!({
        "tools": [{"name": "t1"}, {"name": "s1"}, {"name": "w"}],
        "compliance": {"frameworks": ["A"]},
        "permissions": {
            "network": {"allowedHosts": ["C.D"]},
            "filesystem": {"allowedPaths": ["/b", "/c"]},
            "api": {"services": [{"name": "s", "endpoints": ["f"]}, {"name": "u"}]},
        },
    });
    assert_eq!(
        judged(content, spec),
        [
            "provider.not_allowed spec.model.provider content.agent.models.allowed_providers",
            "model.blocked spec.model.name content.agent.models.blocked_models[1]",
            "tool.blocked spec.tools[0].name content.agent.capabilities.denied_tools[1]",
            "tool.blocked spec.tools[1].name content.tools.blocked_tools[0]",
            "tool.not_allowed spec.tools[2].name content.agent.capabilities.allowed_tools",
            "compliance.framework_missing spec.compliance.frameworks content.compliance.frameworks[1]",
            "compliance.encryption_required spec.compliance.encryption.atRest content.compliance.require_encryption",
            "compliance.encryption_required spec.compliance.encryption.inTransit content.compliance.require_encryption",
            "compliance.residency_violation spec.compliance.dataResidency content.compliance.data_residency",
            "network.blocked spec.permissions.network.allowedHosts[0] content.permissions.network.blocked_domains[1]",
            "network.tls_required spec.permissions.network.requireTls content.permissions.network.require_tls",
            "filesystem.blocked spec.permissions.filesystem.allowedPaths[0] content.permissions.filesystem.blocked_paths[1]",
            "filesystem.not_allowed spec.permissions.filesystem.allowedPaths[1] content.permissions.filesystem.allowed_paths",
            "api.not_allowed spec.permissions.api.services[0].endpoints[0] content.permissions.api.allowed_services[0].endpoints",
            "api.not_allowed spec.permissions.api.services[1].name content.permissions.api.allowed_services",
            "rate.exceeded spec.rateLimits.tokensPerHour content.rate_limits.per_agent.tokens_per_hour",
        ]
    );
}

#[test]
fn a_section_that_is_not_enabled_is_named_where_it_says_so() {
    let spec = json!({"permissions": {"api": {"services": [{"name": "s"}]}}});
    let absent = judged(json!({"permissions": {"api": {}}}), spec.clone());
    assert_eq!(absent, ["api.disabled spec.permissions.api.services[0].name content.permissions.api"]);
    let off = judged(json!({"permissions": {"api": {"enabled": false}}}), spec.clone());
    assert_eq!(off, ["api.disabled spec.permissions.api.services[0].name content.permissions.api.enabled"]);
    assert_eq!(judged(json!({"permissions": {}}), spec), [""; 0]);
}

#[test]
fn one_present_allow_list_of_tools_is_enough_to_close_it() {
    let spec = json!({"tools": [{"name": "a"}, {"name": "A"}]});
    for content in [
        json!({"agent": {"capabilities": {"allowed_tools": ["a"]}}}),
        json!({"tools": {"allowed_tools": [{"name": "a"}]}}),
        json!({"agent": {"capabilities": {"allowed_tools": []}}, "tools": {"allowed_tools": [{"name": "a"}]}}),
        json!({"agent": {"capabilities": {"allowed_tools": ["a"]}}, "tools": {"allowed_tools": []}}),
    ] {
        let found = judged(content, spec.clone());
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("tool.not_allowed spec.tools[1].name content."), "{found:?}");
    }
    let approval = json!({"agent": {"capabilities": {"require_tool_approval": true}}, "tools": {"allowed_tools": [{"name": "a*"}], "blocked_tools": ["AB"]}});
    let found = judged(approval, json!({"tools": [{"name": "a1"}, {"name": "ab"}, {"name": "b"}]}));
    assert_eq!(
        found,
        [
            "tool.blocked spec.tools[1].name content.tools.blocked_tools[0]",
            "tool.not_approved spec.tools[2].name content.agent.capabilities.require_tool_approval",
        ]
    );
}

#[test]
fn residency_is_a_region_or_one_of_its_regions() {
    let content = || json!({"compliance": {"data_residency": "EU-west"}});
    let spec = json!({
        "model": {"provider": "p", "name": "m", "region": "eu-WEST-1"},
        "fallbackModels": [{"provider": "p", "name": "n", "region": "eu"}, {"provider": "p", "name": "o"}],
        "compliance": {"dataResidency": ["eu-west", "eu-west1", "eu-west-", "é"]},
    });
    assert_eq!(
        judged(content(), spec),
        [
            "compliance.residency_violation spec.compliance.dataResidency[1] content.compliance.data_residency",
            "compliance.residency_violation spec.compliance.dataResidency[3] content.compliance.data_residency",
            "compliance.residency_violation spec.fallbackModels[0].region content.compliance.data_residency",
        ]
    );
    let none = judged(content(), json!({"model": {"provider": "p", "name": "m", "region": "us"}}));
    assert_eq!(
        none,
        [
            "compliance.residency_violation spec.compliance.dataResidency content.compliance.data_residency",
            "compliance.residency_violation spec.model.region content.compliance.data_residency",
        ]
    );
}

#[test]
fn what_is_declared_false_or_absent_is_not_true() {
    let content = || json!({"compliance": {"require_audit_logging": true, "require_encryption": false}});
    for declared in [json!({}), json!({"auditLogging": false})] {
        assert_eq!(judged(content(), json!({"compliance": declared})).len(), 1);
    }
    assert_eq!(judged(content(), json!({"compliance": {"auditLogging": true}})), [""; 0]);
}

#[test]
fn hosts_that_are_none_are_invalid() {
    let long_label = "a".repeat(64);
    let long_name = format!("{}a", "a.".repeat(127));
    let bad = [
        "",
        ".",
        "*",
        "*.",
        "*.*.a",
        "a.*.b",
        "a*",
        "a..b",
        ".a",
        "a.b..",
        "-a.b",
        "a-.b",
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "http://a",
        "a:",
        "a:0",
        "a:65536",
        "a:x",
        "a:+1",
        "a:1:2",
        "a:443.",
        "[::1]",
        "::1",
        "u@a",
        "a\\b",
        "größe.de",
        "ａ.b",
        "127.1",
        "1.2.3",
        "256.1.1.1",
        "01.2.3.4",
        "0x7f.1",
        "1.2.3.0x4",
        "2130706433",
        "a.1",
        &long_label,
        &long_name,
    ];
    let expected: Vec<String> = (0..bad.len()).map(|i| format!("invalid[{i}]")).collect();
    assert_eq!(network(json!({"enabled": true}), &bad), expected);
    let good = [
        "a",
        "A.b",
        "a.b.",
        "a.b.:1",
        "*.a",
        "*.a.b.:65535",
        "1.2.3.4",
        "1.2.3.4:80",
        "xn--gre-6ka8i.de",
        "a_b.c",
        "a-b",
        "1a.b1",
        "0x.a",
    ];
    assert_eq!(network(json!({"enabled": true}), &good), [""; 0]);
}

#[test]
fn blocks_meet_every_overlap_and_allowances_must_cover_all() {
    let hosts = ["a.b.c", "b.c", "*.b.c", "*.c", "xb.c", "*.a.b.c", "B.C.:8", "c"];
    assert_eq!(
        network(json!({"enabled": true, "blocked_domains": ["*.B.c."]}), &hosts),
        ["blocked[0]", "blocked[1]", "blocked[2]", "blocked[3]", "blocked[5]", "blocked[6]"]
    );
    assert_eq!(
        network(json!({"enabled": true, "blocked_domains": ["b.c"]}), &hosts),
        ["blocked[1]", "blocked[2]", "blocked[3]", "blocked[6]"]
    );
    assert_eq!(
        network(json!({"enabled": true, "allowed_domains": ["*.B.c."]}), &hosts),
        ["not_allowed[3]", "not_allowed[4]", "not_allowed[7]"]
    );
    assert_eq!(network(json!({"enabled": true, "blocked_domains": ["*"]}), &hosts).len(), hosts.len());
    assert_eq!(network(json!({"enabled": true, "allowed_domains": ["*"]}), &hosts), [""; 0]);
    assert_eq!(network(json!({"enabled": true, "allowed_domains": []}), &hosts).len(), hosts.len());
    assert_eq!(
        network(json!({"allowed_domains": ["*"], "blocked_domains": ["*"]}), &["b.c", "?"]),
        ["disabled[0]", "disabled[1]"]
    );
}

#[test]
fn an_endpoint_is_a_plain_url() {
    let judge_endpoint = |policy: Value, endpoint: &str| {
        let spec = json!({"model": {"provider": "p", "name": "m", "endpoint": endpoint}});
        let found = judged(json!({"permissions": {"network": policy}}), spec);
        short(&found, "spec.model.endpoint")
    };
    let strict = || json!({"enabled": true, "allowed_domains": ["*.a.b"]});
    for good in ["https://a.b", "HTTP://x.A.B.:80", "https://a.b/", "https://a.b/@x:y?z#q", "http://a.b:65535//"] {
        assert_eq!(judge_endpoint(strict(), good), [""; 0], "{good}");
    }
    for bad in [
        "",
        "a.b",
        "//a.b",
        "ftp://a.b",
        "https:/a.b",
        "https:a.b",
        "https://",
        "https:///a.b",
        "https://a.b?x",
        "https://a.b#x",
        "https://u@a.b",
        "https://u:p@a.b/",
        "https://a.b\\",
        "https://a.b/\\",
        "https://a.b /",
        "https://a.b/ x",
        "https://a.b/\t",
        "https://a.b/\n",
        "https://*.a.b",
        "https://a.b:",
        "https://a.b:0/",
        "https://a.b:99999/",
        "https://[::1]/",
        " https://a.b",
        "https://1.2/",
    ] {
        assert_eq!(judge_endpoint(strict(), bad), ["invalid"], "{bad:?}");
    }
    assert_eq!(judge_endpoint(strict(), "https://b"), ["not_allowed"]);
    let tls = || json!({"enabled": true, "require_tls": true});
    assert_eq!(judge_endpoint(tls(), "http://a.b"), ["tls_required"]);
    assert_eq!(judge_endpoint(tls(), "hTTps://a.b"), [""; 0]);
    assert_eq!(judge_endpoint(tls(), "ftp://a.b"), ["invalid", "tls_required"]);
    assert_eq!(judge_endpoint(json!({"require_tls": true}), "http://a.b"), ["disabled"]);
}

#[test]
fn tls_is_promised_for_hosts_only_where_some_are_asked_for() {
    let content = || json!({"permissions": {"network": {"enabled": true, "require_tls": true}}});
    for (network, refused) in [
        (json!({}), false),
        (json!({"requireTls": false}), false),
        (json!({"allowedHosts": ["a.b"], "requireTls": false}), true),
        (json!({"allowedHosts": ["a.b"]}), true),
        (json!({"allowedHosts": ["a.b"], "requireTls": true}), false),
    ] {
        let found = judged(content(), json!({"permissions": {"network": network}}));
        assert_eq!(found.len(), usize::from(refused), "{network}");
    }
}

#[test]
fn paths_are_resolved_before_they_are_compared() {
    let paths = ["/a/../b", "//b/", "/../../b/.", "/b/c/..", "b", "./b", "/b/../", "/b/x"];
    assert_eq!(
        files(json!({"enabled": true, "allowed_paths": ["/b"]}), &paths),
        ["not_allowed[4]", "not_allowed[5]", "not_allowed[6]", "not_allowed[7]"]
    );
    assert_eq!(files(json!({"enabled": true, "allowed_paths": ["b"]}), &paths).len(), 6);
    assert_eq!(files(json!({"enabled": true, "allowed_paths": ["/*"]}), &paths), ["not_allowed[4]", "not_allowed[5]"]);
    assert_eq!(files(json!({"enabled": true, "allowed_paths": ["*"]}), &paths), [""; 0]);
}

#[test]
fn a_path_that_leaves_its_directory_meets_every_block_and_no_allowance() {
    let paths = ["..", "../a", "a/../../b", "a/..", "..a", "a/..b"];
    assert_eq!(
        files(json!({"enabled": true, "allowed_paths": ["*"]}), &paths),
        ["not_allowed[0]", "not_allowed[1]", "not_allowed[2]"]
    );
    assert_eq!(
        files(json!({"enabled": true, "blocked_paths": ["x"]}), &paths),
        ["blocked[0]", "blocked[1]", "blocked[2]", "blocked[3]"]
    );
    assert_eq!(files(json!({"enabled": true}), &paths), [""; 0]);
    assert_eq!(files(json!({"enabled": true, "blocked_paths": []}), &paths), [""; 0]);
}

#[test]
fn a_block_is_met_by_whatever_holds_something_of_it() {
    for (block, met, free) in [
        ("/etc/*", &["/", "/etc", "/ETC", "/etc/ssh"][..], &["/etcetera", "/et"][..]),
        ("/etc", &["/", "/etc"], &["/etc/ssh", "/etcetera"]),
        ("/home/*/secret", &["/", "/home", "/home/u", "/home/u/public", "/home/a/secret"], &["/homes", "/srv"]),
        ("/var/l*", &["/var", "/var/lib", "/var/log/x", "/var/l"], &["/var/run", "/va"]),
        ("*.pem", &["/", "/a/b", ".", "a.pem", "/x.PEM"], &[]),
        ("data/*", &[".", "data", "data/x"], &["/data", "/", "datax"]),
        ("*/x", &["/", "a", "."], &[]),
        ("/a*c/d", &["/", "/abc", "/abc/d", "/ax", "/a"], &["/b"]),
    ] {
        let judge = |paths: &[&str]| files(json!({"enabled": true, "blocked_paths": [block]}), paths).len();
        assert_eq!(judge(met), met.len(), "{block} meets {met:?}");
        assert_eq!(judge(free), 0, "{block} leaves {free:?}");
    }
}

#[test]
fn extensions_matter_only_where_paths_are_asked_for() {
    let content = || json!({"permissions": {"filesystem": {"enabled": true, "allowed_extensions": [".txt"]}}});
    let ask = |filesystem: Value| judged(content(), json!({"permissions": {"filesystem": filesystem}})).len();
    assert_eq!(ask(json!({"allowedExtensions": [".sh"]})), 0);
    assert_eq!(ask(json!({"allowedPaths": ["/a"], "allowedExtensions": [".sh", ".Txt", "txt"]})), 2);
    assert_eq!(ask(json!({"allowedPaths": ["/a"]})), 1);
    let disabled = json!({"permissions": {"filesystem": {"allowed_extensions": []}}});
    let asked = json!({"permissions": {"filesystem": {"allowedPaths": ["/a"], "allowedExtensions": [".sh"]}}});
    assert_eq!(judged(disabled, asked).len(), 1, "disabled, and nothing beside it");
}

#[test]
fn entries_of_one_service_add_up() {
    let services = |allowed: Value, asked: Value| {
        let content = json!({"permissions": {"api": {"enabled": true, "allowed_services": allowed}}});
        let found = judged(content, json!({"permissions": {"api": {"services": asked}}}));
        short(&found, "spec.permissions.api.services")
    };
    let two = || json!([{"service_name": "s", "endpoints": ["a"]}, {"service_name": "t"}, {"service_name": "s", "endpoints": ["b"]}]);
    let asked = json!([{"name": "s", "endpoints": ["a", "b", "c", "A"]}, {"name": "S"}, {"name": "t", "endpoints": ["x"]}, {"name": "s"}]);
    assert_eq!(
        services(two(), asked),
        [
            "not_allowed[0].endpoints[2]",
            "not_allowed[0].endpoints[3]",
            "not_allowed[1].name",
            "not_allowed[3].endpoints"
        ]
    );
    let open = json!([{"service_name": "s", "endpoints": ["a"]}, {"service_name": "s"}]);
    assert_eq!(services(open, json!([{"name": "s", "endpoints": ["z"]}, {"name": "s"}])), [""; 0]);
    let closed = json!([{"service_name": "s", "endpoints": []}]);
    assert_eq!(
        services(closed, json!([{"name": "s", "endpoints": ["z"]}, {"name": "s"}])),
        ["not_allowed[0].endpoints[0]", "not_allowed[1].endpoints"]
    );
    assert_eq!(services(json!([]), json!([{"name": "s"}])), ["not_allowed[0].name"]);
}

#[test]
fn an_identity_is_checked_only_when_it_can_be_computed() {
    let wrong = "0".repeat(64);
    let judge_identity = |identity: Value| judged(json!({}), json!({"identity": identity}));
    assert_eq!(judge_identity(json!({"sekuireId": wrong})), [""; 0]);
    assert_eq!(judge_identity(json!({"sekuireId": wrong, "promptHash": wrong})), [""; 0]);
    assert_eq!(
        judge_identity(json!({"sekuireId": wrong, "promptHash": wrong, "toolsHash": wrong})),
        ["identity.mismatch spec.identity.sekuireId"]
    );
}
