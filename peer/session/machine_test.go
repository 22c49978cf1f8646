package session

import "testing"

func TestHandshakeAndData(t *testing.T) {
	for _, suite := range []Suite{SuiteWireGuard, SuiteAESGCM} {
		t.Run(suite.String(), func(t *testing.T) {
			a, b := newEnds(t, suite, Config{})
			ka, kb := connect(a, b)
			if ka.Suite() != suite || kb.Suite() != suite {
				t.Errorf("suites %v and %v", ka.Suite(), kb.Suite())
			}
			if ka.LocalIndex() != kb.RemoteIndex() || ka.RemoteIndex() != kb.LocalIndex() {
				t.Error("indexes do not match")
			}
			if !ka.Initiator() || kb.Initiator() {
				t.Error("roles are wrong")
			}
			a.deliver(b, "there")
			b.deliver(a, "and back")
		})
	}
}
