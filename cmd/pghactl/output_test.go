package main

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
)

// jsonNames collects the field names of a documented type.
func jsonNames(t reflect.Type, into map[string]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return
	}
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" || into[t.Name()+"."+name] {
			continue
		}
		into[t.Name()+"."+name] = true
		jsonNames(field.Type, into)
	}
}

func TestEveryFieldOfTheOutputIsDocumented(t *testing.T) {
	text, err := os.ReadFile("OUTPUT.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, v := range []any{
		clusterView{},
		memberWhy{},
		historyView{},
		moveView{},
		actionResult{},
		pauseView{},
		editView{},
		versionView{},
	} {
		jsonNames(reflect.TypeOf(v), names)
	}
	for _, name := range sortedKeys(names) {
		_, field, _ := strings.Cut(name, ".")
		if !strings.Contains(string(text), "`"+field+"`") {
			t.Errorf("OUTPUT.md does not mention %s", name)
		}
	}
}

func TestYAMLKeepsWordsThatOldReadersTakeForBooleans(t *testing.T) {
	var b bytes.Buffer
	if err := encode(&b, formatYAML, map[string]any{"a": "off", "b": "No", "c": "plain", "d": "12", "e": true}); err != nil {
		t.Fatal(err)
	}
	want := "a: \"off\"\nb: \"No\"\nc: plain\nd: \"12\"\ne: true\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestCompatLagIsRoundedMebibytes(t *testing.T) {
	for bytes, want := range map[uint64]uint64{0: 0, 1<<19 - 1: 0, 1 << 19: 1, 1 << 20: 1, 3<<20 + 1<<19: 4} {
		if got := mebibytes(&bytes); got != want {
			t.Errorf("%d bytes: got %v, want %d", bytes, got, want)
		}
	}
	if mebibytes(nil) != nil {
		t.Error("unknown lag is not empty")
	}
}
