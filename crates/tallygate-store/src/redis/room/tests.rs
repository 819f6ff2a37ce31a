use super::Room;

#[test]
fn who_has_gone_is_not_asked_for() {
    let room = Room::default();
    assert!(!room.begin(7));
    assert!(room.lines.lock().asking.is_empty());
}
