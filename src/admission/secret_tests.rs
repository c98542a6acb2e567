use super::*;

const NOW: &str = "2026-06-01T00:00:00Z";
/// Past two thirds of the life of what was made at `NOW`, and not yet its end.
const DUE: &str = "2026-08-10T00:00:00Z";
/// Past its end.
const OVER: &str = "2026-09-10T00:00:00Z";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn names() -> Names {
    Names::of_service("webhook", "sekuire")
}

fn fresh() -> Secret {
    fill(Secret::default(), &pair::make(&names(), time(NOW)).unwrap(), "", time(NOW))
}

fn rotated() -> Secret {
    let secret = fresh();
    let stored = Stored::read(&secret, time(DUE));
    prepare(secret, &pair::make(&names(), time(DUE)).unwrap(), &stored.authorities, time(DUE))
}

fn decide(secret: &Secret, now: &str, settled: bool) -> Plan {
    plan(Some(&Stored::read(secret, time(now))), &names(), time(now), |_| settled)
}

fn text(secret: &Secret, key: &str) -> String {
    let data = secret.data.as_ref().unwrap();
    data.get(key).map(|value| String::from_utf8(value.0.clone()).unwrap()).unwrap_or_default()
}

fn why(plan: &Plan) -> &str {
    match plan {
        Plan::Replace { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_absent_is_created_and_what_is_sound_is_kept() {
    assert_eq!(plan(None, &names(), time(NOW), |_| true), Plan::Create);
    assert_eq!(decide(&fresh(), NOW, true), Plan::Keep);
    assert_eq!(decide(&fresh(), "2026-07-30T00:00:00Z", true), Plan::Keep);
}

#[test]
fn at_two_thirds_of_life_the_next_is_made_and_takes_over_once_api_servers_trust_it() {
    assert_eq!(decide(&fresh(), DUE, false), Plan::Rotate);
    let rotated = rotated();
    assert_eq!(decide(&rotated, DUE, false), Plan::Keep, "not published yet");
    assert_eq!(decide(&rotated, DUE, true), Plan::Promote);
    let promoted = promote(rotated.clone());
    assert_eq!(decide(&promoted, DUE, true), Plan::Keep);
    assert_eq!(text(&promoted, CERTIFICATE), text(&rotated, NEXT_CERTIFICATE));
    assert_eq!(text(&promoted, NEXT_CERTIFICATE), "");
}

#[test]
fn both_authorities_are_published_during_a_rotation_and_after_it_until_the_former_expires() {
    let rotated = rotated();
    let stored = Stored::read(&rotated, time(DUE));
    stored.served.as_ref().unwrap().trusted_by(&stored.authorities, &names(), time(DUE)).unwrap();
    stored.next.as_ref().unwrap().as_ref().unwrap().trusted_by(&stored.authorities, &names(), time(DUE)).unwrap();
    let promoted = promote(rotated);
    assert_eq!(bundle::certificates(&Stored::read(&promoted, time(DUE)).authorities, time(DUE)).len(), 2);
    assert_eq!(bundle::certificates(&Stored::read(&promoted, time(OVER)).authorities, time(OVER)).len(), 1);
}

#[test]
fn the_private_key_of_an_authority_is_nowhere() {
    let secret = rotated();
    let keys: Vec<&String> = secret.data.as_ref().unwrap().keys().collect();
    assert_eq!(keys, [AUTHORITIES, NEXT_CERTIFICATE, NEXT_KEY, CERTIFICATE, KEY]);
    assert!(!text(&secret, AUTHORITIES).contains("PRIVATE"));
}

#[test]
fn an_expired_certificate_is_replaced_at_once_or_by_the_next_if_there_is_one() {
    assert!(why(&decide(&fresh(), OVER, false)).contains("no authority"));
    assert_eq!(decide(&rotated(), OVER, false), Plan::Promote);
}

#[test]
fn a_key_of_another_certificate_rubbish_and_nothing_at_all_are_replaced() {
    let mut secret = fresh();
    let other = fresh();
    secret.data.as_mut().unwrap().insert(KEY.to_owned(), ByteString(text(&other, KEY).into_bytes()));
    assert!(why(&decide(&secret, NOW, true)).starts_with("certificate and key do not belong together"));
    assert!(why(&decide(&Secret::default(), NOW, true)).starts_with("there is no certificate"));
    let mut secret = fresh();
    secret.data.as_mut().unwrap().insert(AUTHORITIES.to_owned(), ByteString(b"\xffrubbish".to_vec()));
    assert!(why(&decide(&secret, NOW, true)).contains("no authority"));
}

#[test]
fn a_broken_next_certificate_is_made_again() {
    let mut secret = rotated();
    secret.data.as_mut().unwrap().remove(NEXT_KEY);
    assert_eq!(decide(&secret, DUE, true), Plan::Rotate);
}

#[test]
fn a_certificate_for_other_names_is_replaced_by_one_for_both_so_that_two_settings_do_not_fight() {
    let theirs = Names::of_service("other", "sekuire");
    let secret = fill(Secret::default(), &pair::make(&theirs, time(NOW)).unwrap(), "", time(NOW));
    let Plan::Replace { why, names: both } = decide(&secret, NOW, true) else { panic!("kept") };
    assert!(why.contains("not valid for webhook.sekuire.svc"), "{why}");
    let secret = fill(secret, &pair::make(&both, time(NOW)).unwrap(), "", time(NOW));
    assert_eq!(decide(&secret, NOW, true), Plan::Keep);
    assert_eq!(plan(Some(&Stored::read(&secret, time(NOW))), &theirs, time(NOW), |_| true), Plan::Keep);
}

#[test]
fn replacing_keeps_the_authority_of_before_as_others_still_serve_what_it_vouches_for() {
    let before = fresh();
    let authorities = text(&before, AUTHORITIES);
    let after = fill(before.clone(), &pair::make(&names(), time(NOW)).unwrap(), &authorities, time(NOW));
    let served = Stored::read(&before, time(NOW)).served.unwrap();
    served.trusted_by(&text(&after, AUTHORITIES), &names(), time(NOW)).unwrap();
}
