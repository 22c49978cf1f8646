package stack

import "testing"

// What is bypassed gets no frame for a group, known or not, and every other frame as before.
func TestBypass(t *testing.T) {
	both(t, func(t *testing.T, six bool, g func(int) groupAddr) {
		s := trio(Config{})
		s.AddPort(5, Local)
		tell(t, s, 1, query(six, number(2), 10), 2)
		tell(t, s, 2, report(g(1), number(3)), 3)
		s.Age(20)
		want(t, "data, before", tell(t, s, 20, data(g(1), number(5)), 5), 2, 3)

		s.Bypass(3, true)
		want(t, "known group", tell(t, s, 21, data(g(1), number(5)), 5), 1, 2, 4)
		want(t, "unknown group", tell(t, s, 21, data(g(2), number(5)), 5), 1, 2, 4)
		want(t, "report", tell(t, s, 21, report(g(2), number(5)), 5), 2, 4)
		want(t, "query", tell(t, s, 21, query(six, number(5), 10), 5), 1, 2, 4)
		want(t, "from it", tell(t, s, 21, data(g(3), number(3)), 3), 1, 2, 5)
		if v := tell(t, s, 22, frameOf(number(3), number(5), 0x0800), 5); v.Action != Unicast || v.Out != 3 {
			t.Errorf("a frame for somebody behind it goes to %+v", v)
		}
		want(t, "unknown station", tell(t, s, 22, frameOf(number(77), number(5), 0x0800), 5), 1, 2, 3, 4)

		s.Bypass(3, false)
		want(t, "after: its members are not known", tell(t, s, 23, data(g(1), number(5)), 5), 1, 2, 3, 4)
		s.Bypass(5, true) // not remote: nothing happens
		s.Bypass(3, true)
		s.RemovePort(3)
		s.AddPort(3, Remote)
		want(t, "a new port of its number", tell(t, s, 24, data(g(3), number(5)), 5), 1, 2, 3, 4)
	})
}
