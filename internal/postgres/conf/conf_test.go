package conf

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuoteAgreesWithPostgreSQLSyntax(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"on", `'on'`},
		{"", `''`},
		{`it's`, `'it''s'`},
		{`C:\wal\%p`, `'C:\\wal\\%p'`},
		{"a\nport = 1", `'a\nport = 1'`},
		{"a\r\nb", `'a\r\nb'`},
	} {
		got, err := Quote(tc.in)
		if err != nil || got != tc.want {
			t.Errorf("Quote(%q) = %s, %v; want %s", tc.in, got, err, tc.want)
		}
	}
	if _, err := Quote("a\x00b"); err == nil {
		t.Error("a zero byte was accepted")
	}
}

func TestParseFileReadsWhatPostgreSQLReads(t *testing.T) {
	text := strings.Join([]string{
		"# comment",
		"",
		"max_connections = 100\t\t# (change requires restart)",
		"port 5433",
		"  shared_buffers=128MB",
		"listen_addresses = 'localhost, ::1'",
		`search_path = '"$user", public'`,
		`archive_command = 'cp "%p" ''/a b/%f'' \\ \x \101'`,
		"include 'postgresql.base.conf'",
		"random_page_cost = 1.1",
		"wal_retrieve_retry_interval = -1",
		"auto_explain.log_min_duration = 5s",
		"PORT = 5434",
	}, "\r\n")
	got, err := ParseFile(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []Setting{
		{"max_connections", "100"},
		{"port", "5433"},
		{"shared_buffers", "128MB"},
		{"listen_addresses", "localhost, ::1"},
		{"search_path", `"$user", public`},
		{"archive_command", `cp "%p" '/a b/%f' \ x A`},
		{"include", "postgresql.base.conf"},
		{"random_page_cost", "1.1"},
		{"wal_retrieve_retry_interval", "-1"},
		{"auto_explain.log_min_duration", "5s"},
		{"PORT", "5434"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if m := SettingsMap(got); m["port"] != "5434" || m["include"] != "" {
		t.Errorf("map: %v", m)
	}
}

func TestParseFileRefusesBrokenLines(t *testing.T) {
	for _, line := range []string{"a b c", "x = 'open", "= 3", "9a = 1", "x =", "x", "x = 'a' 'b'", "x = \"a\""} {
		if got, err := ParseFile(line); err == nil {
			t.Errorf("%q was read as %v", line, got)
		}
	}
}

func TestRenderFileRefusesWhatIsNoName(t *testing.T) {
	for _, name := range []string{"", "a b", "a=1\nb", "a.b.c", ".a", "a.", "1a", "a-b", "ä"} {
		if out, err := RenderFile(nil, []Setting{{name, "1"}}); err == nil {
			t.Errorf("name %q was rendered: %q", name, out)
		}
	}
}

func FuzzRenderedFileReadsBackTheSame(f *testing.F) {
	f.Add("work_mem", "4MB", "a.b", "it's")
	f.Add("x", "\n\r\\'", "y", "''\\")
	f.Add("x", "\xff\xfe", "y", "\t")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string) {
		in := []Setting{{n1, v1}, {n2, v2}}
		text, err := RenderFile([]string{"made"}, in)
		if err != nil {
			return
		}
		if got := strings.Count(text, "\n"); got != 3 {
			t.Fatalf("%d lines: %q", got, text)
		}
		got, err := ParseFile(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if d := cmp.Diff(in, got); d != "" {
			t.Fatalf("%q: %s", text, d)
		}
	})
}

func FuzzParseFileNeverPanics(f *testing.F) {
	f.Add("a = 'b\\")
	f.Fuzz(func(_ *testing.T, s string) { _, _ = ParseFile(s) })
}

func TestConnInfoHasAFixedOrderAndQuotes(t *testing.T) {
	got, err := RenderConnInfo(map[string]string{
		"host": "10.0.0.1", "port": "5432", "user": "repl", "dbname": "postgres",
		"application_name": "node one", "passfile": `/a\b/it's`, "zzz": "1", "sslcert": "",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `dbname=postgres user=repl passfile='/a\\b/it\'s' host=10.0.0.1 port=5432 application_name='node one' zzz=1`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func FuzzConnInfoReadsBackTheSame(f *testing.F) {
	f.Add("host", "a b", "'\\=")
	f.Add("password", "", "x\ny dbname=z")
	f.Fuzz(func(t *testing.T, k, v, v2 string) {
		in := map[string]string{k: v, "application_name": v2}
		text, err := RenderConnInfo(in)
		if err != nil {
			return
		}
		got, err := ParseConnInfo(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for k, v := range in {
			if v == "" {
				delete(in, k)
			}
		}
		if d := cmp.Diff(in, got); d != "" {
			t.Fatalf("%q: %s", text, d)
		}
	})
}

func FuzzParseConnInfoNeverPanics(f *testing.F) {
	f.Add(`a = 'b\' c`)
	f.Fuzz(func(_ *testing.T, s string) { _, _ = ParseConnInfo(s) })
}

func TestPassFileEscapesColonsAndBackslashes(t *testing.T) {
	got, err := RenderPassFile([]PassEntry{{"::1", "5432", "*", "re:pl", `p\a:ss`}})
	if err != nil || got != "\\:\\:1:5432:*:re\\:pl:p\\\\a\\:ss\n" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := RenderPassFile([]PassEntry{{"h", "1", "*", "u", "a\nb"}}); err == nil {
		t.Error("a line break in a password was accepted")
	}
}

func FuzzPassFileReadsBackTheSame(f *testing.F) {
	f.Add("h", "u", "p:\\#")
	f.Fuzz(func(t *testing.T, host, user, password string) {
		in := []PassEntry{{host, "5432", "*", user, password}, {"localhost", "*", "*", user, password}}
		text, err := RenderPassFile(in)
		if err != nil {
			return
		}
		if d := cmp.Diff(in, ParsePassFile(text)); d != "" {
			t.Fatalf("%q: %s", text, d)
		}
	})
}

func TestSyncNamesRenderAsTheContractSays(t *testing.T) {
	for _, tc := range []struct {
		in   SyncNames
		want string
	}{
		{SyncNames{}, ""},
		{SyncNames{SyncPriority, 1, []string{"n1"}}, "n1"},
		{SyncNames{SyncPriority, 2, []string{"n2", "n1"}}, "2 (n1,n2)"},
		{SyncNames{SyncPriority, 1, []string{"n2", "n1"}}, "1 (n1,n2)"},
		{SyncNames{SyncAny, 1, []string{"a"}}, "ANY 1 (a)"},
		{SyncNames{SyncAny, 2, []string{"first", "b-1", `q"x`, "any"}}, `ANY 2 ("any","b-1","first","q""x")`},
		{SyncNames{SyncPriority, 1, []string{"*"}}, "*"},
	} {
		got, err := tc.in.Render()
		if err != nil || got != tc.want {
			t.Errorf("%+v: got %q, %v; want %q", tc.in, got, err, tc.want)
		}
	}
	for _, bad := range []SyncNames{{SyncAny, 0, []string{"a"}}, {SyncAny, 1, nil}, {SyncPriority, 1, []string{""}}} {
		if got, err := bad.Render(); err == nil {
			t.Errorf("%+v rendered as %q", bad, got)
		}
	}
}

func TestSyncNamesAreReadInEveryForm(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want SyncNames
	}{
		{"", SyncNames{}},
		{" ", SyncNames{}},
		{"*", SyncNames{SyncPriority, 1, []string{"*"}}},
		{"a, b", SyncNames{SyncPriority, 1, []string{"a", "b"}}},
		{"2 (a,b)", SyncNames{SyncPriority, 2, []string{"a", "b"}}},
		{"FIRST 2(a , \"b c\")", SyncNames{SyncPriority, 2, []string{"a", "b c"}}},
		{"any 1 (a)", SyncNames{SyncAny, 1, []string{"a"}}},
		{"first, any", SyncNames{SyncPriority, 1, []string{"first", "any"}}},
		{`"2"`, SyncNames{SyncPriority, 1, []string{"2"}}},
	} {
		got, err := ParseSyncNames(tc.in)
		if err != nil {
			t.Errorf("%q: %v", tc.in, err)
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%q: %s", tc.in, d)
		}
	}
	for _, bad := range []string{"ANY 1", "2 (a", "0 (a)", "a b", "a,", ",a", `"a`, "(a)", `""`, "ANY 1 a", "1 ()"} {
		if got, err := ParseSyncNames(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}

func FuzzSyncNamesReadBackTheSame(f *testing.F) {
	f.Add(true, 1, "a", `b"c`)
	f.Add(false, 2, "*", "first")
	f.Fuzz(func(t *testing.T, quorum bool, num int, a, b string) {
		in := SyncNames{SyncPriority, num, []string{a, b}}
		if quorum {
			in.Method = SyncAny
		}
		text, err := in.Render()
		if err != nil {
			return
		}
		got, err := ParseSyncNames(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		in.Names = []string{min(a, b), max(a, b)}
		if d := cmp.Diff(in, got); d != "" {
			t.Fatalf("%q: %s", text, d)
		}
	})
}

func FuzzParseSyncNamesNeverPanics(f *testing.F) {
	f.Add("ANY 1 (")
	f.Fuzz(func(_ *testing.T, s string) { _, _ = ParseSyncNames(s) })
}

func TestSlotNameFollowsTheMemberName(t *testing.T) {
	for in, want := range map[string]string{
		"Node-1.example": "node_1_example",
		"a b":            "au0032b",
		"ä":              "u0228",
		"x_9":            "x_9",
		"日":              "u26085",
	} {
		if got := SlotName(in); got != want || !ValidSlotName(got) {
			t.Errorf("SlotName(%q) = %q, want %q", in, got, want)
		}
	}
	if got := SlotName(strings.Repeat("n", 80)); len(got) != 63 {
		t.Errorf("length %d", len(got))
	}
	m, err := SlotNames([]string{"a-1", "a.1", "b"})
	if err == nil || m["a-1"] != "a_1" || m["b"] != "b" {
		t.Errorf("a collision passed unseen: %v, %v", m, err)
	}
}

func TestUnitsReadAsPostgreSQLReadsThem(t *testing.T) {
	for _, tc := range []struct {
		in   string
		base int64
		want int64
	}{{"128MB", 1024, 128 << 20}, {"16384", 8192, 16384 * 8192}, {"1.5GB", 1, 3 << 29}, {"64 kB", 1, 65536}, {"-1", 1024, -1024}} {
		if got, err := ParseBytes(tc.in, tc.base); err != nil || got != tc.want {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", tc.in, got, err, tc.want)
		}
	}
	for _, tc := range []struct {
		in   string
		base time.Duration
		want time.Duration
	}{{"100ms", time.Second, 100 * time.Millisecond}, {"5", time.Minute, 5 * time.Minute}, {"0.5 s", time.Hour, 500 * time.Millisecond}, {"250us", 1, 250 * time.Microsecond}, {"1d", 1, 24 * time.Hour}} {
		if got, err := ParseDuration(tc.in, tc.base); err != nil || got != tc.want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", tc.in, got, err, tc.want)
		}
		if back, err := ParseDuration(FormatDuration(tc.want), 1); err != nil || back != tc.want {
			t.Errorf("FormatDuration(%v) = %q reads back as %v, %v", tc.want, FormatDuration(tc.want), back, err)
		}
	}
	for _, bad := range []string{"", "MB", "1 mb", "1e400", "x1", "9999999999999TB"} {
		if got, err := ParseBytes(bad, 1); err == nil {
			t.Errorf("ParseBytes(%q) = %d", bad, got)
		}
	}
	if got := KeepSizeFromSegments(8); got != "128MB" {
		t.Errorf("8 segments = %s", got)
	}
	if got, err := SegmentsFromKeepSize("100MB"); err != nil || got != 7 {
		t.Errorf("100MB = %d segments, %v", got, err)
	}
}

func TestBooleansReadByUniquePrefix(t *testing.T) {
	for in, want := range map[string][2]bool{
		"on": {true, true}, "T": {true, true}, "y": {true, true}, "1": {true, true},
		"of": {false, true}, "FALSE": {false, true}, "n": {false, true}, "0": {false, true},
		"o": {false, false}, "": {false, false}, "2": {false, false}, "onn": {false, false},
	} {
		if v, ok := ParseBool(in); v != want[0] || ok != want[1] {
			t.Errorf("ParseBool(%q) = %v, %v", in, v, ok)
		}
	}
}

func TestHBALinesCannotRunIntoOneAnother(t *testing.T) {
	got, err := RenderLines([]string{"made"}, []string{"local all all trust\n", "# note"})
	if err != nil || got != "# made\nlocal all all trust\n# note\n" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"a\nb", `host all all all reject \`, "a\x00"} {
		if got, err := RenderLines(nil, []string{bad}); err == nil {
			t.Errorf("%q was rendered as %q", bad, got)
		}
	}
}

func FuzzHBARuleReadsBackTheSame(f *testing.F) {
	f.Add("host", "all", "my db", "repl", "10.0.0.0/8", "scram-sha-256")
	f.Add("local", "replication", "x", "a,b", "", "peer")
	f.Fuzz(func(t *testing.T, typ, db1, db2, user, addr, method string) {
		in := HBARule{Type: typ, Databases: []string{db1, db2}, Users: []string{user}, Address: addr, Method: method}
		if typ == "local" {
			in.Address = ""
		}
		line, err := in.Render()
		if err != nil {
			return
		}
		got, ok, err := ParseHBA(line)
		if err != nil || !ok {
			t.Fatalf("%q: %v", line, err)
		}
		if d := cmp.Diff(in, got); d != "" {
			t.Fatalf("%q: %s", line, d)
		}
	})
}

func TestParseHBAJoinsANetmask(t *testing.T) {
	r, ok, err := ParseHBA(`host all,"my db" +admins 10.0.0.0 255.0.0.0 md5 map=x # note`)
	want := HBARule{"host", []string{"all", "my db"}, []string{"+admins"}, "10.0.0.0/255.0.0.0", "md5", []string{"map=x"}}
	if d := cmp.Diff(want, r); err != nil || !ok || d != "" {
		t.Errorf("%v %v %s", ok, err, d)
	}
	if _, ok, err := ParseHBA("  # only a comment"); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
}
