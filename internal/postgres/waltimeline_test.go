package postgres

import "testing"

func TestSegmentNamesAreRead(t *testing.T) {
	for _, r := range []struct {
		name   string
		tl     uint32
		number uint64
		ok     bool
	}{
		{"000000020000000000000005", 2, 5, true},
		{"0000000A00000001000000FF", 10, 0x1ff, true},
		{"00000002.history", 0, 0, false},
		{"000000020000000000000005.partial", 0, 0, false},
		{"archive_status", 0, 0, false},
	} {
		tl, number, ok := parseSegmentName(r.name, 16<<20)
		if uint32(tl) != r.tl || uint64(number) != r.number || ok != r.ok {
			t.Errorf("%s: got timeline %d, segment %d, %v", r.name, tl, number, ok)
		}
	}
}
