package config

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestAnyValueInAnyPlaceIsReadOrRefused puts odd values in the place of good ones all over the
// full example. Nothing may panic, and what loads must survive being written and read again.
func TestAnyValueInAnyPlaceIsReadOrRefused(t *testing.T) {
	data, err := os.ReadFile("testdata/good/full.yml")
	if err != nil {
		t.Fatal(err)
	}
	loaded, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		tree, err := parseFile("full.yml", data)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			mutate(t, tree)
		}
		c, err := build(tree, nil, nil, (*Config).Validate)
		if err != nil {
			refused++
			return
		}
		loaded++
		text, err := c.YAML()
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		again, err := Parse("written", text, nil)
		if err != nil {
			t.Fatalf("the written form does not load: %v\n%s", err, text)
		}
		second, err := again.YAML()
		if err != nil {
			t.Fatalf("cannot be written again: %v", err)
		}
		if diff := cmp.Diff(string(text), string(second)); diff != "" {
			t.Fatalf("written twice it differs (-first +second):\n%s", diff)
		}
	})
	if loaded == 0 || refused == 0 {
		t.Errorf("%d loaded and %d refused: the values are not odd enough, or too odd", loaded, refused)
	}
}

// mutate replaces, removes or adds one value somewhere in the tree.
func mutate(t *rapid.T, n *node) {
	for {
		key := rapid.SampledFrom(slices.Clone(n.keys)).Draw(t, "key")
		child := n.values[key]
		if child.kind == mapNode && len(child.keys) > 0 && rapid.IntRange(0, 5).Draw(t, "stay") > 0 {
			n = child
			continue
		}
		switch rapid.IntRange(0, 5).Draw(t, "what") {
		case 0:
			if len(n.keys) > 1 {
				n.remove(key)
			}
		case 1:
			n.set(rapid.StringMatching(`[a-z_]{0,12}`).Draw(t, "new"), child)
		default:
			n.set(key, oddNode(t, 2))
		}
		return
	}
}

func oddNode(t *rapid.T, depth int) *node {
	kinds := 5
	if depth > 0 {
		kinds = 7
	}
	switch rapid.IntRange(0, kinds).Draw(t, "kind") {
	case 0:
		return &node{}
	case 1:
		return &node{kind: scalarNode, scalar: boolScalar, text: rapid.SampledFrom([]string{"true", "off", "Yes", "NO"}).Draw(t, "bool")}
	case 2:
		return &node{kind: scalarNode, scalar: intScalar, text: rapid.SampledFrom([]string{"0", "-1", "017", "0x1f", "99999999999999999999", "5"}).Draw(t, "int")}
	case 3:
		return &node{kind: scalarNode, scalar: floatScalar, text: rapid.SampledFrom([]string{"1.5", "-.inf", ".nan", "1e400", "1e6"}).Draw(t, "float")}
	case 4:
		odd := []string{"", " ", "off", "<<", "~", "a: b", "[a", "{", "10.0.0.1:5432", "::1", "/x", "/var/lib/postgresql/17/main/in", "'", "\x00", "é\n", "10s", "16MB", "a,b", "a=b"}
		return newText(rapid.SampledFrom(odd).Draw(t, "text"), "")
	case 5:
		return newText(rapid.String().Draw(t, "random"), "")
	case 6:
		list := &node{kind: listNode}
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			list.items = append(list.items, oddNode(t, depth-1))
		}
		return list
	default:
		m := newMap("")
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			m.set(rapid.SampledFrom([]string{"command", "a", "", "<<", "on", "type", "name", "é", "x\x00"}).Draw(t, "name"), oddNode(t, depth-1))
		}
		return m
	}
}
