package fencer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestDecodeRequestRefusesWhatAnOperationCannotWorkWith(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{`{"id":1,"op":"state"}`, ""},
		{`{"id":1,"op":"state","unknown":[1,{}]}`, ""},
		{`{"id":1,"op":"arm","token":{"epoch":1,"until":5}}`, ""},
		{`{"id":1,"op":"start","start":{"bin":"x","args":["x"]}}`, ""},
		{``, "decode request"},
		{`null`, "no id"},
		{`{"op":"state"}`, "no id"},
		{`{"id":1}`, "unknown operation"},
		{`{"id":1,"op":"format"}`, "unknown operation"},
		{`{"id":1,"op":"arm"}`, "without its argument"},
		{`{"id":1,"op":"hello"}`, "without its argument"},
		{`{"id":1,"op":"start","start":{"bin":"x"}}`, "without its argument"},
		{`{"id":-1,"op":"state"}`, "decode request"},
		{`{"id":1,"op":"renew","epoch":-1}`, "decode request"},
		{`{"id":1,"op":"renew","until":1e300}`, "decode request"},
		{`{"id":1,"op":"state"} {}`, "decode request"},
	} {
		_, err := decodeRequest([]byte(tt.line))
		if got := fmt.Sprint(err); tt.want == "" && err != nil || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %v, want %q", tt.line, err, tt.want)
		}
	}
}

func TestEveryErrorOfTheContractCrossesTheSocket(t *testing.T) {
	for _, c := range errorCodes() {
		sent := failure(1, fmt.Errorf("words: %w", c.err))
		line, err := encodeLine(sent)
		must(t, err)
		var got response
		must(t, json.Unmarshal(line, &got))
		if err := errorFrom(got); !errors.Is(err, c.err) || err.Error() != "words: "+c.err.Error() {
			t.Errorf("%v became %v", c.err, err)
		}
	}
	if err := errorFrom(failure(1, errors.New("else"))); err == nil || err.Error() != "else" {
		t.Errorf("unexpected %v", err)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"id":1,"op":"arm","token":{"epoch":1,"lease":2,"leader_revision":3,"until":4}}`))
	f.Add([]byte(`{"id":2,"op":"start","start":{"bin":"/x","args":["x"],"env":["A=b"],"primary":true,"epoch":1}}`))
	f.Add([]byte(`{"id":3,"op":"hello","hello":{"name":"a","started":1}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		req, err := decodeRequest(line)
		if err != nil {
			return
		}
		again, err := encodeLine(req)
		must(t, err)
		req2, err := decodeRequest(bytes.TrimSuffix(again, []byte{'\n'}))
		if err != nil || req2.ID != req.ID || req2.Op != req.Op {
			t.Fatalf("%q does not survive: %v", line, err)
		}
		switch {
		case req.Op == opArm && req.Token == nil, req.Op == opHello && req.Hello == nil,
			req.Op == opStart && (req.Start == nil || len(req.Start.Args) == 0):
			t.Fatalf("accepted without argument: %q", line)
		}
	})
}

func FuzzReadLine(f *testing.F) {
	f.Add([]byte("a\nb\n\nc"))
	f.Add(bytes.Repeat([]byte{'x'}, 5000))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(stream), 16)
		var joined []byte
		for {
			line, err := readLine(r)
			if err != nil {
				if rest := stream[len(joined):]; len(rest) > 0 != errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("%v with %q left", err, rest)
				}
				return
			}
			if bytes.IndexByte(line, '\n') >= 0 {
				t.Fatalf("line %q", line)
			}
			joined = append(append(joined, line...), '\n')
			if !bytes.HasPrefix(stream, joined) {
				t.Fatalf("%q is no prefix of %q", joined, stream)
			}
		}
	})
}

func TestReadLineBoundsTheLength(t *testing.T) {
	r := bufio.NewReader(bytes.NewReader(bytes.Repeat([]byte{'x'}, maxLine+2)))
	if _, err := readLine(r); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

// FuzzForeignBytes feeds what the fencer reads from files that it does not control.
func FuzzForeignBytes(f *testing.F) {
	f.Add([]byte("12 (a) b) S 1 2 3 0 -1 4 5 6 7 8 9 10 11 12 13 14 15 16 777 18\n"))
	f.Add([]byte("123\n/data\n1700000000\n5432\n"))
	f.Add([]byte(`{"version":1,"boot_id":"x","armed":true,"token":{"epoch":1}}`))
	f.Add([]byte("0::/a/b\n31 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"))
	f.Add(make([]byte, 600))
	f.Fuzz(func(_ *testing.T, content []byte) {
		_, _ = parseStat(content)
		_, _ = parsePidFile(content)
		_, _ = decodeDurable(content)
		_, _ = parseControl(content)
		_ = ownCgroup(string(content), string(content))
		_ = statusField(content, "\nUid:")
		_ = isPostgresName(content)
	})
}
