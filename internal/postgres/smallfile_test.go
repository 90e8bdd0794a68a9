package postgres

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSmallReadsWhatReadFileReads(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	put := func(b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int{0, 1, 2047, 2048, 2049, 4096, 100_000} {
		want := []byte(strings.Repeat("abcdefg", size/7+1)[:size])
		put(want)
		for _, most := range []int{1, 512, 2048, 5000, smallFileMax} {
			got, err := readSmall(path, most)
			if err != nil || !bytes.Equal(got, want[:min(size, most)]) {
				t.Errorf("%d bytes, at most %d: got %d bytes, %v", size, most, len(got), err)
			}
		}
	}
	put(make([]byte, smallFileMax+10_000))
	if _, err := readSmall(path, 1<<30); err == nil {
		t.Error("a file beyond the bound was read")
	}
	if _, err := readSmall(filepath.Join(dir, "none"), 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unexpected %v", err)
	}
	if _, err := readSmall(dir, 10); err == nil {
		t.Error("a directory was read")
	}
}
