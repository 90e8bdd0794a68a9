package model

import (
	"testing"
	"unsafe"
)

func TestAStateHasNoPadding(t *testing.T) {
	var s State
	t.Logf("a state is %d bytes, a member %d, a content %d", unsafe.Sizeof(s), unsafe.Sizeof(s.m[0]), unsafe.Sizeof(content{}))
	if unsafe.Alignof(s) != 1 {
		t.Fatal("a state must consist of single bytes")
	}
}
