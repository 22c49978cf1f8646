package peer

import "testing"

func TestAmple(t *testing.T) {
	if Ample(0) != 0 || Ample(-1) != 0 {
		t.Error("room for nothing")
	}
	seen := map[int]bool{}
	for n := 1; n <= 5000; n++ {
		got := Ample(n)
		if got < n || n <= 1024 && got >= 2*n || n > 1024 && got >= n+1024 {
			t.Fatalf("room for %d: %d", n, got)
		}
		if seen[got] = true; n == 1024 && len(seen) != 11 {
			t.Errorf("%d sizes for up to 1024 elements", len(seen))
		}
	}
}
