package config

import (
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// decoder fills structs from nodes, guided by their tags, and collects what is wrong instead of
// stopping at the first problem.
//
// Tags: yaml:"name" and alias:"other,names" as usual; config:"rest" marks the map that takes
// sections with names of the user's choice; config:"gucs" a map whose keys are case-insensitive
// names of PostgreSQL settings; config:"lines" a list whose items may contain commas.
type decoder struct {
	problems Problems
	// ignored lists settings that are known and have no effect.
	ignored []string
	// ignoredKeys gives the reason for a path, if it is such a setting.
	ignoredKeys map[string]string
	origins     map[string]string
	// unknownKey is told of each unknown key.
	unknownKey func(path string, n *node, suggestion string)
}

func newDecoder() *decoder {
	d := &decoder{origins: map[string]string{}}
	d.unknownKey = func(path string, n *node, suggestion string) {
		want := "unknown key: remove it"
		switch {
		case suggestion == "" && n.kind == mapNode && (strings.HasPrefix(path, "postgresql.") || strings.HasPrefix(path, "bootstrap.")):
			want = "unknown section: a method of your own needs a command in it; anything else remove"
		case suggestion != "":
			want = "unknown key: did you mean " + suggestion + "?"
		}
		d.problems = append(d.problems, Problem{Path: path, Want: want, Origin: n.origin})
	}
	return d
}

func (d *decoder) bad(path string, n *node, want string) {
	d.problems = append(d.problems, Problem{Path: path, Value: n.describe(), Want: want, Origin: n.origin})
}

// acceptsRest is implemented by structs with a config:"rest" field, to say which unknown keys
// are names of the user's choice and which are mistakes.
type acceptsRest interface {
	acceptsRest(key string, value, parent *node) bool
}

// field is one setting of a struct.
type field struct {
	value   reflect.Value
	aliases []string
	mode    string
}

// fields lists the settings of a struct, those of embedded structs included, and its rest map.
func fields(v reflect.Value) (named map[string]field, names []string, rest reflect.Value) {
	named = map[string]field{}
	t := v.Type()
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, ok := sf.Tag.Lookup("yaml")
		if !ok || tag == "-" {
			continue
		}
		name, flags, _ := strings.Cut(tag, ",")
		mode := sf.Tag.Get("config")
		switch {
		case mode == "rest":
			rest = v.Field(i)
		case flags == "inline":
			inner, innerNames, innerRest := fields(v.Field(i))
			maps.Copy(named, inner)
			names = append(names, innerNames...)
			if innerRest.IsValid() {
				rest = innerRest
			}
		default:
			f := field{value: v.Field(i), mode: mode}
			if alias := sf.Tag.Get("alias"); alias != "" {
				f.aliases = strings.Split(alias, ",")
			}
			named[name] = f
			names = append(names, name)
		}
	}
	return named, names, rest
}

func (d *decoder) structure(path string, n *node, v reflect.Value) {
	if n.kind != mapNode {
		// The value is not shown: user:password is a likely mistake for a section of credentials.
		kind := "one value"
		if n.kind == listNode {
			kind = n.describe()
		}
		d.problems = append(d.problems, Problem{Path: path, Value: kind, Want: "want a mapping of settings", Origin: n.origin})
		return
	}
	named, names, rest := fields(v)
	used := map[string]string{}
	for _, key := range n.keys {
		value, here := n.values[key], join(path, key)
		name, ok := canonical(key, named)
		switch {
		case d.ignoredKeys[here] != "":
			if value.kind != nullNode {
				d.ignored = append(d.ignored, here+": "+d.ignoredKeys[here])
			}
		case ok:
			if other, twice := used[name]; twice {
				d.bad(here, value, "given together with "+join(path, other)+", which means the same: keep one")
				continue
			}
			used[name] = key
			d.value(join(path, name), value, named[name].value, named[name].mode)
		case rest.IsValid() && takesRest(v, key, value, n):
			d.restValue(here, key, value, rest)
		default:
			d.unknownKey(here, value, nearest(key, append(slices.Clone(names), d.ignoredUnder(path)...)))
		}
	}
}

func takesRest(v reflect.Value, key string, value, parent *node) bool {
	judge, ok := reflect.TypeAssert[acceptsRest](v.Addr())
	return !ok || judge.acceptsRest(key, value, parent)
}

// ignoredUnder lists the keys of a section that are known though they have no effect.
func (d *decoder) ignoredUnder(path string) []string {
	prefix := ""
	if path != "" {
		prefix = path + "."
	}
	var keys []string
	for known := range d.ignoredKeys {
		if key, ok := strings.CutPrefix(known, prefix); ok && !strings.Contains(key, ".") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func canonical(key string, named map[string]field) (string, bool) {
	if _, ok := named[key]; ok {
		return key, true
	}
	for name, f := range named {
		if slices.Contains(f.aliases, key) {
			return name, true
		}
	}
	return "", false
}

func (d *decoder) restValue(path, key string, n *node, rest reflect.Value) {
	if n.kind == nullNode && rest.Type().Elem().Kind() == reflect.String {
		return // an option without a value is not passed on
	}
	if rest.IsNil() {
		rest.Set(reflect.MakeMap(rest.Type()))
	}
	item := reflect.New(rest.Type().Elem()).Elem()
	d.value(path, n, item, "")
	rest.SetMapIndex(reflect.ValueOf(key), item)
}

// value decodes a node into v. A null leaves v as it is: an empty section in a file means that
// nothing is set in it.
func (d *decoder) value(path string, n *node, v reflect.Value, mode string) {
	if n.kind == nullNode {
		return
	}
	d.origins[path] = n.origin
	if v.Kind() == reflect.Pointer {
		target := reflect.New(v.Type().Elem())
		before := len(d.problems)
		d.value(path, n, target.Elem(), mode)
		if len(d.problems) == before {
			v.Set(target)
		}
		return
	}
	switch v.Interface().(type) {
	case Secret:
		d.secret(path, n, v)
	case CommandOptions:
		d.options(path, n, v)
	case map[string]string:
		d.stringMap(path, n, v, mode)
	case []string:
		d.list(path, n, v, mode)
	case Tags, map[string]any:
		d.freeMap(path, n, v)
	default:
		switch v.Kind() {
		case reflect.Struct:
			d.structure(path, n, v)
		default:
			d.scalar(path, n, v)
		}
	}
}

func (d *decoder) secret(path string, n *node, v reflect.Value) {
	if n.kind != scalarNode {
		d.problems = append(d.problems, Problem{Path: path, Want: "want one text", Origin: n.origin})
		return
	}
	v.Set(reflect.ValueOf(NewSecret(n.text)))
}

func (d *decoder) scalar(path string, n *node, v reflect.Value) {
	if n.kind != scalarNode {
		d.bad(path, n, "want one value")
		return
	}
	var err error
	switch v.Interface().(type) {
	case time.Duration:
		var dur time.Duration
		dur, err = parseDuration(n.text)
		v.SetInt(int64(dur))
	case Bytes:
		var size int64
		size, err = parseBytes(n.text, 1)
		v.SetInt(size)
	case fs.FileMode:
		var m int64
		if m, err = parseInt(n.text); err != nil || m < 0 || m > 0o777 {
			err = fmt.Errorf("want an octal file mode up to 0777, e.g. 0640")
		} else {
			v.SetUint(uint64(m))
		}
	case WatchdogMode, WireFence:
		v.SetString(n.text)
	default:
		switch v.Kind() {
		case reflect.String:
			v.SetString(n.text)
		case reflect.Bool:
			var b bool
			b, err = parseBool(n.text)
			v.SetBool(b)
		case reflect.Int:
			var i int64
			if i, err = parseInt(n.text); err == nil {
				v.SetInt(i)
			}
		default:
			err = fmt.Errorf("no way to read a %s", v.Type())
		}
	}
	if err != nil {
		d.bad(path, n, err.Error())
	}
}
