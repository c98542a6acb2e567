//! The mistakes that others have made, each as an attack on a real controller before a real API server, with real Git:
//! the object, its mark and the verdicts stay as they were, and what is said is the right reason.
//!
//! | pitfall | test | answer |
//! | --- | --- | --- |
//! | errors are swallowed | `cluster::errors_swallowed_…` | a source or key that cannot be read keeps what is enforced; a signature that nobody can verify any more withdraws, which admits nobody |
//! | the custom resource is edited by hand | `cluster::cr_edited_by_hand_…`; fifteen ways of it, against several replicas, in `resilience::tamper` | every replica verifies the object again by the ledger's mark; the controller puts it back |
//! | replay | `replay::replay_…` | versions only rise per workspace, whatever the repository, and whatever was deleted |
//! | force-push | `replay::force_push_…` | a branch may only descend; the way out is an administrator's word, in `reconcile::overrides` |
//! | freeze | `replay::freeze_…` | `expires_at` ends by the clock alone; `Stale` tells of the silence |
//! | traversal and symbolic links | `parsing::traversal_and_symlinks_…` | the object database is read, regular files below the path alone |
//! | YAML bombs and huge files | `parsing::yaml_bombs_and_huge_files_are_refused_…` | bounds on bytes, depth and files; no anchors, aliases, tags or merge keys |
//! | too much to verify | `budget::thousands_of_costly_documents_…` | each look has a budget, the next one goes on, what is small and known comes first |
//! | a parser with rules of its own | `budget::no_value_…`, `reconcile::copies` | values from outside are read by one visitor |
//! | duplicate keys | `parsing::duplicate_keys_…` | refused in JSON and YAML, also where escapes hide them |
//! | the signature is stripped | `signatures::signature_stripped_…` | both signatures have to be there; there is no setting without |
//! | a key comes with the bundle | `signatures::key_from_bundle_…` | `SigningKey` objects are the only keys |
//! | keys are confused | `signatures::key_confusion_…` | a key signs for its workspaces; `document_signature` is over the whole document under a type of its own |
//! | canonicalisation | `parsing::canonicalisation_…` | signed is the canonical form (RFC 8785) of data that has one reading only: no fractions, no duplicates; text is compared as it is |
//! | Ed25519 signatures are malleable | `signatures::ed25519_malleability_…` | `verify_strict`; weak keys are refused when they are read |
//! | Git's SHA-1 | `replay::git_sha1_…` | libgit2 detects collisions; ids are computed again from what is received; BLAKE3 and Ed25519 decide |
//! | clocks differ | `replay::clock_skew_…` | each replica's own clock decides, without tolerance; no time in a commit or a document is believed |
//! | time of check, time of use | `replay::toctou_…` | one commit is named, verified and read; objects are written with the resourceVersion they were decided on (`resilience::leaders`) |
//! | SSRF, `file://`, `ext::` | `network::ssrf_file_and_ext_urls_…` | `https` and `ssh` alone; no link-local address after DNS; no redirect to another server; no submodule |
//! | the receiver is flooded | `network::receiver_dos_…`; size in `reconcile::receiver` | a bounded body, a bounded rate, proof before anything else; it only asks for a look |
//! | credentials leak | `network::credential_leaks_…`, and `leaks` over the whole run | no user info in URLs; secrets are taken out of what servers say |
//! | a name that passes for another, a path that is read in two ways | `agents::…` | refused whatever the policy says; denials see through prefixes |
//! | an agent's own word on provider, server, image | `agents::what_an_agent_…` | the signed table of endpoints, the lists of servers and images |
//! | a new version reads less | `upgrade::…` | `repo check --cluster` names it before, the status and each refusal after |
//! | exceptions from anywhere | `cluster::exceptions_anywhere_…` | there are none: rules are what was signed, and marks are lowered only after a revocation |
//!
//! Rows that are about admission alone are tested where admission is: `failurePolicy`, selectors and a deleted webhook
//! configuration in `admission::registration` and `resilience::tamper`; namespace labels in `admission::verdicts`;
//! subresources, other versions and other kinds in `admission::registration` (rules of the webhook) and `admission::review`
//! (beside the code).

mod agents;
mod budget;
mod cluster;
mod network;
mod parsing;
mod replay;
mod signatures;
mod support;
mod upgrade;
