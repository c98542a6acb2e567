use sekuire_policy::policy::sign::{PrivateKey, sign};
fn main() {
    let k = PrivateKey::from_seed(&[7; 32]);
    if std::env::args().nth(1).is_none() {
        println!("{}", k.public().to_hex());
        return;
    }
    for f in std::env::args().skip(1) {
        let v = serde_json::from_str(&std::fs::read_to_string(&f).unwrap()).unwrap();
        let s = sign(v, &k, "key_1", jiff::Timestamp::now()).unwrap();
        std::fs::write(&f, serde_json::to_string_pretty(&s).unwrap()).unwrap();
    }
}
