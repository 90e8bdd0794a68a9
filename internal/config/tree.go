package config

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// nodeKind is the shape of a node.
type nodeKind uint8

const (
	nullNode nodeKind = iota
	scalarNode
	listNode
	mapNode
)

// scalarKind is what an unquoted scalar looks like. Quoted ones are always text.
type scalarKind uint8

const (
	textScalar scalarKind = iota
	boolScalar
	intScalar
	floatScalar
)

// node is a value of a file, a variable or a JSON document before it has a type. Scalars keep the
// text they were written with, so that a password 0123 stays one, and each node knows its origin.
type node struct {
	kind   nodeKind
	scalar scalarKind
	text   string
	items  []*node
	keys   []string // in the order written
	values map[string]*node
	origin string
}

// Limits that keep a hostile or broken document from taking all memory.
const (
	maxDepth = 64
	maxNodes = 200_000
)

func newMap(origin string) *node {
	return &node{kind: mapNode, values: map[string]*node{}, origin: origin}
}

func newText(text, origin string) *node {
	return &node{kind: scalarNode, text: text, origin: origin}
}

func (n *node) set(key string, value *node) {
	if _, ok := n.values[key]; !ok {
		n.keys = append(n.keys, key)
	}
	n.values[key] = value
}

func (n *node) get(key string) *node {
	if n == nil || n.kind != mapNode {
		return nil
	}
	return n.values[key]
}

func (n *node) remove(key string) {
	delete(n.values, key)
	n.keys = slices.DeleteFunc(n.keys, func(k string) bool { return k == key })
}

// at walks down a path of keys, making maps where there are none.
func (n *node) at(keys []string, origin string) *node {
	for _, key := range keys {
		next := n.values[key]
		if next == nil || next.kind != mapNode {
			next = newMap(origin)
			n.set(key, next)
		}
		n = next
	}
	return n
}

// merge lays other over n: maps merge, anything else is replaced.
func (n *node) merge(other *node) {
	for _, key := range other.keys {
		theirs := other.values[key]
		ours := n.values[key]
		if ours != nil && ours.kind == mapNode && theirs.kind == mapNode {
			ours.merge(theirs)
			continue
		}
		n.set(key, theirs)
	}
}

// describe names the kind of a node in a message.
func (n *node) describe() string {
	switch n.kind {
	case listNode:
		return "a list"
	case mapNode:
		return "a mapping"
	case scalarNode:
		return quoteValue(n.text)
	default:
		return "nothing"
	}
}

// toAny turns the node into plain Go values: nil, bool, int64, float64, string, []any, map[string]any.
func (n *node) toAny() any {
	switch n.kind {
	case listNode:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = item.toAny()
		}
		return list
	case mapNode:
		m := make(map[string]any, len(n.keys))
		for key, value := range n.values {
			m[key] = value.toAny()
		}
		return m
	case scalarNode:
		return n.scalarToAny()
	default:
		return nil
	}
}

func (n *node) scalarToAny() any {
	switch n.scalar {
	case boolScalar:
		b, _ := parseBool(n.text)
		return b
	case intScalar:
		if i, err := parseInt(n.text); err == nil {
			return i
		}
	case floatScalar:
		// Infinity and not-a-number have no JSON form; they stay text.
		if f, err := strconv.ParseFloat(n.text, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f
		}
	case textScalar:
	}
	return n.text
}

// textOf writes a plain value the way a command line or a parameter wants it.
func textOf(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case bool:
		return strconv.FormatBool(v)
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

// yamlReader turns a YAML document into nodes.
type yamlReader struct {
	file  string
	left  int
	found Problems
}

// parseYAML reads one YAML document. Duplicate keys are problems; a document that is no YAML at
// all, or too big, is an error.
func parseYAML(file string, data []byte) (*node, error) {
	var doc yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return &node{kind: nullNode, origin: file}, nil
		}
		return nil, fmt.Errorf("%s: not valid YAML: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, fmt.Errorf("%s: want one YAML document, this file has several", file)
	}
	r := &yamlReader{file: file, left: maxNodes}
	root, err := r.convert(&doc, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := r.found.err(); err != nil {
		return nil, err
	}
	return root, nil
}

func (r *yamlReader) origin(y *yaml.Node) string {
	return r.file + ":" + strconv.Itoa(y.Line)
}

func (r *yamlReader) convert(y *yaml.Node, depth int) (*node, error) {
	r.left--
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d: nested more than %d levels deep", y.Line, maxDepth)
	}
	if r.left < 0 {
		return nil, errors.New("too large once its aliases are expanded")
	}
	switch y.Kind {
	case yaml.DocumentNode:
		if len(y.Content) == 0 {
			return &node{origin: r.file}, nil
		}
		return r.convert(y.Content[0], depth)
	case yaml.AliasNode:
		return r.convert(y.Alias, depth+1)
	case yaml.SequenceNode:
		list := &node{kind: listNode, origin: r.origin(y)}
		for _, item := range y.Content {
			n, err := r.convert(item, depth+1)
			if err != nil {
				return nil, err
			}
			list.items = append(list.items, n)
		}
		return list, nil
	case yaml.MappingNode:
		return r.convertMap(y, depth)
	default:
		return r.convertScalar(y), nil
	}
}

func (r *yamlReader) convertMap(y *yaml.Node, depth int) (*node, error) {
	m := newMap(r.origin(y))
	merged := newMap(m.origin)
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: want a plain word as key", key.Line)
		}
		n, err := r.convert(value, depth+1)
		if err != nil {
			return nil, err
		}
		if key.Tag == "!!merge" {
			mergeKey(merged, n)
			continue
		}
		if first := m.values[key.Value]; first != nil {
			r.found = append(r.found, Problem{
				Path: key.Value, Want: "given twice, first at " + first.origin + ": keep one", Origin: r.origin(key),
			})
			continue
		}
		if n.kind != mapNode && n.kind != listNode {
			n.origin = r.origin(key) // the line of the key is what an editor jumps to
		}
		m.set(key.Value, n)
	}
	for _, key := range merged.keys {
		if _, own := m.values[key]; !own {
			m.set(key, merged.values[key])
		}
	}
	return m, nil
}

// mergeKey carries out "<<": the first of several mappings wins.
func mergeKey(into, n *node) {
	sources := []*node{n}
	if n.kind == listNode {
		sources = n.items
	}
	for _, source := range sources {
		for _, key := range source.keys {
			if _, ok := into.values[key]; !ok {
				into.set(key, source.values[key])
			}
		}
	}
}

func (r *yamlReader) convertScalar(y *yaml.Node) *node {
	n := &node{kind: scalarNode, text: y.Value, origin: r.origin(y)}
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	if y.Style&quoted != 0 {
		return n
	}
	switch y.Tag {
	case "!!null":
		n.kind = nullNode
	case "!!bool":
		n.scalar = boolScalar
	case "!!int":
		n.scalar = intScalar
	case "!!float":
		n.scalar = floatScalar
	default:
		// These words are text in YAML 1.2 and booleans in YAML 1.1, which the files were
		// written for.
		switch y.Value {
		case "on", "On", "ON", "yes", "Yes", "YES", "off", "Off", "OFF", "no", "No", "NO":
			n.scalar = boolScalar
		}
	}
	return n
}
