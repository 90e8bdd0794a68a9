package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// list reads a list of texts. One text with commas in it will do where items have none.
func (d *decoder) list(path string, n *node, v reflect.Value, mode string) {
	list := []string{} // given but empty is not the same as not given
	switch n.kind {
	case scalarNode:
		list = append(list, splitList(n.text, mode == "lines")...)
	case listNode:
		for i, item := range n.items {
			switch item.kind {
			case scalarNode:
				list = append(list, item.text)
			case nullNode:
			default:
				d.bad(fmt.Sprintf("%s[%d]", path, i), item, "want a text; a line with a colon in it needs quotes")
			}
		}
	default:
		d.bad(path, n, "want a list")
		return
	}
	v.Set(reflect.ValueOf(list))
}

// splitList takes apart a list given as one text: by line, or by comma with quotes and brackets
// round it allowed, as variables are often written.
func splitList(s string, lines bool) []string {
	separator, trim := ",", " \t\n'\""
	if lines {
		separator, trim = "\n", " \t"
	} else {
		s = strings.TrimSpace(s)
		if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") && !strings.Contains(s, "]:") {
			s = s[1 : len(s)-1]
		}
	}
	var list []string
	for item := range strings.SplitSeq(s, separator) {
		if item = strings.Trim(item, trim); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// stringMap reads a mapping of single values. Lists of values are joined with commas, which is
// how PostgreSQL writes them.
func (d *decoder) stringMap(path string, n *node, v reflect.Value, mode string) {
	if n.kind == scalarNode {
		parsed, err := parsePairs(n.text, n.origin)
		if err != nil {
			d.bad(path, n, "want a mapping")
			return
		}
		n = parsed
	}
	if n.kind != mapNode {
		d.bad(path, n, "want a mapping")
		return
	}
	out := map[string]string{}
	for _, key := range n.keys {
		item, name := n.values[key], key
		here := join(path, key)
		if mode == "gucs" {
			name = strings.ToLower(key)
		}
		if item.kind == nullNode {
			continue
		}
		if _, twice := out[name]; twice {
			d.bad(here, item, "given twice in different case: keep one")
			continue
		}
		text, ok := flatText(item)
		if !ok {
			d.bad(here, item, "want one value")
			continue
		}
		if mode == "gucs" && strings.ContainsRune(text, 0) {
			d.bad(here, item, "want a text without zero bytes")
			continue
		}
		if mode == "gucs" && item.kind == scalarNode && item.scalar == boolScalar {
			text = onOff(text) // the spelling in which PostgreSQL shows it
		}
		out[name] = text
		d.origins[here] = item.origin
	}
	v.Set(reflect.ValueOf(out).Convert(v.Type()))
}

func onOff(text string) string {
	if b, _ := parseBool(text); b {
		return "on"
	}
	return "off"
}

func flatText(n *node) (string, bool) {
	switch n.kind {
	case scalarNode:
		return n.text, true
	case listNode:
		parts := make([]string, 0, len(n.items))
		for _, item := range n.items {
			if item.kind != scalarNode {
				return "", false
			}
			parts = append(parts, item.text)
		}
		return strings.Join(parts, ", "), true
	default:
		return "", false
	}
}

// parsePairs reads a mapping given as one text: "{a: 1, b: 2}", "a: 1, b: 2" or "a=1,b=2".
func parsePairs(s, origin string) (*node, error) {
	if strings.TrimSpace(s) == "" {
		return newMap(origin), nil
	}
	text := strings.TrimSpace(s)
	if !strings.HasPrefix(text, "{") && strings.Contains(text, "=") && !strings.Contains(text, ": ") {
		m := newMap(origin)
		for pair := range strings.SplitSeq(text, ",") {
			key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
			if !ok || key == "" {
				return nil, fmt.Errorf("%q is not name=value", pair)
			}
			m.set(strings.TrimSpace(key), newText(strings.TrimSpace(value), origin))
		}
		return m, nil
	}
	if !strings.HasPrefix(text, "{") && !strings.Contains(text, "\n") {
		text = "{" + text + "}"
	}
	n, err := parseYAML(origin, []byte(text))
	if err != nil {
		return nil, err
	}
	if n.kind != mapNode {
		return nil, fmt.Errorf("not a mapping")
	}
	return n, nil
}

func (d *decoder) freeMap(path string, n *node, v reflect.Value) {
	if n.kind != mapNode {
		d.bad(path, n, "want a mapping")
		return
	}
	d.trace(path, n)
	v.Set(reflect.ValueOf(n.toAny()).Convert(v.Type()))
}

// trace remembers the origins of everything in a free-form mapping, for later messages about it.
func (d *decoder) trace(path string, n *node) {
	for _, key := range n.keys {
		here := join(path, key)
		d.origins[here] = n.values[key].origin
		d.trace(here, n.values[key])
	}
}

// options reads the options of a program: a list of names and {name: value}, or a mapping, in
// which true and nothing mean a bare name and false leaves the option out.
func (d *decoder) options(path string, n *node, v reflect.Value) {
	opts := CommandOptions{}
	switch n.kind {
	case mapNode:
		opts = d.optionPairs(path, n, opts)
	case listNode:
		for i, item := range n.items {
			switch item.kind {
			case scalarNode:
				opts = append(opts, CommandOption{Name: optionName(item.text)})
			case mapNode:
				opts = d.optionPairs(path, item, opts)
			case nullNode:
			default:
				d.bad(fmt.Sprintf("%s[%d]", path, i), item, "want a name, or name: value")
			}
		}
	default:
		d.bad(path, n, "want a list of names and name: value")
		return
	}
	v.Set(reflect.ValueOf(opts))
}

func (d *decoder) optionPairs(path string, n *node, opts CommandOptions) CommandOptions {
	for _, key := range n.keys {
		item := n.values[key]
		opt := CommandOption{Name: optionName(key)}
		switch {
		case item.kind == nullNode:
		case item.kind == scalarNode && item.scalar == boolScalar:
			if on, _ := parseBool(item.text); !on {
				continue
			}
		case item.kind == scalarNode:
			opt.Value, opt.HasValue = item.text, true
		default:
			d.bad(join(path, key), item, "want one value")
			continue
		}
		d.origins[join(path, key)] = item.origin
		opts = append(opts, opt)
	}
	return opts
}

// optionName drops the dashes that some people write.
func optionName(s string) string {
	return strings.TrimLeft(strings.TrimSpace(s), "-")
}

// acceptsRest lets a section of postgresql pass as a replica method when it looks like one.
func (o *PostgresOptions) acceptsRest(key string, value, parent *node) bool {
	return isReplicaMethod(key, value, parent)
}

func isReplicaMethod(key string, value, parent *node) bool {
	if value.kind != mapNode && value.kind != nullNode {
		return false
	}
	for _, mark := range []string{"command", "no_leader", "no_master", "no_params", "keep_data"} {
		if value.get(mark) != nil {
			return true
		}
	}
	for _, list := range []string{"create_replica_methods", "create_replica_method"} {
		if n := parent.get(list); n != nil {
			if slices.Contains(splitList(n.text, false), key) ||
				slices.ContainsFunc(n.items, func(item *node) bool { return item.text == key }) {
				return true
			}
		}
	}
	return false
}

// acceptsRest lets a section of bootstrap pass as a method when it is the chosen one or has a command.
func (b *Bootstrap) acceptsRest(key string, value, parent *node) bool {
	if value.kind != mapNode {
		return false
	}
	method := parent.get("method")
	return value.get("command") != nil || (method != nil && method.text == key)
}
