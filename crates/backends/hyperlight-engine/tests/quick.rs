#[test]
fn quick() {
    let t = std::time::Instant::now();
    let r = agentkernel_hyperlight_engine::probe();
    println!("{r:?} {:?}", t.elapsed());
    if let Err(e) = &r { println!("{e}"); }
    r.unwrap();
}
