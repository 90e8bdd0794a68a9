package config

import (
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v3"
)

// YAML writes the configuration as it holds, with all defaults filled in and secrets hidden, in
// the form that Load reads.
func (c *Config) YAML() ([]byte, error) {
	root, err := c.MarshalYAML()
	if err != nil {
		return nil, fmt.Errorf("write config: %w", err)
	}
	return yaml.Marshal(root)
}

// MarshalYAML keeps a Config that is written as part of something else in the same form.
func (c *Config) MarshalYAML() (any, error) {
	return encodeValue(addressable(c), addressable(Default()))
}

// encodeValue is the opposite of the decoder. It gives nil for what is not set. What is empty though
// its default, if there is one, is not must be written, or the default would come back.
func encodeValue(v, def reflect.Value) (*yaml.Node, error) {
	switch x := v.Interface().(type) {
	case Secret:
		return plainNode(x.String(), x.IsSet()), nil
	case time.Duration:
		return plainNode(secondsText(x), true), nil
	case fs.FileMode:
		return plainNode(fmt.Sprintf("%04o", x), x != 0), nil
	case Bytes:
		return plainNode(strconv.FormatInt(int64(x), 10), true), nil
	case CommandOptions:
		return encodeOptions(x), nil
	case Tags:
		return encodeFree(map[string]any(x))
	case map[string]any:
		return encodeFree(x)
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil, nil
		}
		return encodeValue(v.Elem(), reflect.Value{})
	case reflect.Struct:
		m := &yaml.Node{Kind: yaml.MappingNode}
		if err := encodeStruct(m, v, def); err != nil {
			return nil, err
		}
		if len(m.Content) == 0 {
			return nil, nil
		}
		return m, nil
	case reflect.Map:
		return encodeMap(v)
	case reflect.Slice:
		return encodeList(v)
	case reflect.String:
		if v.String() == "" && (!def.IsValid() || def.String() == "") {
			return nil, nil
		}
		return textNode(v.String()), nil
	case reflect.Bool, reflect.Int:
		return plainNode(fmt.Sprint(v.Interface()), true), nil
	default:
		return nil, fmt.Errorf("no way to write a %s", v.Type())
	}
}

func encodeStruct(into *yaml.Node, v, def reflect.Value) error {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		var fieldDefault reflect.Value
		if def.IsValid() {
			fieldDefault = def.Field(i)
		}
		tag, ok := sf.Tag.Lookup("yaml")
		if !ok || tag == "-" {
			continue
		}
		name, flags, _ := strings.Cut(tag, ",")
		if flags == "inline" && sf.Type.Kind() == reflect.Struct {
			if err := encodeStruct(into, v.Field(i), fieldDefault); err != nil {
				return err
			}
			continue
		}
		n, err := encodeValue(v.Field(i), fieldDefault)
		if err != nil {
			return err
		}
		switch {
		case n == nil:
		case flags == "inline":
			into.Content = append(into.Content, n.Content...)
		default:
			into.Content = append(into.Content, textNode(name), n)
		}
	}
	return nil
}

func encodeMap(v reflect.Value) (*yaml.Node, error) {
	if v.Len() == 0 {
		return nil, nil
	}
	m := &yaml.Node{Kind: yaml.MappingNode}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range keys {
		n, err := encodeValue(v.MapIndex(key), reflect.Value{})
		if err != nil {
			return nil, err
		}
		if n == nil { // an empty text is a value here, unlike in a struct
			n = &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.DoubleQuotedStyle}
		}
		m.Content = append(m.Content, textNode(key.String()), n)
	}
	return m, nil
}

func encodeList(v reflect.Value) (*yaml.Node, error) {
	if v.IsNil() {
		return nil, nil
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	if v.Len() == 0 {
		list.Style = yaml.FlowStyle
	}
	for i := range v.Len() {
		n, err := encodeValue(v.Index(i), reflect.Value{})
		if err != nil {
			return nil, err
		}
		if n != nil {
			list.Content = append(list.Content, n)
		}
	}
	return list, nil
}

func encodeOptions(options CommandOptions) *yaml.Node {
	if options == nil {
		return nil
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, opt := range options {
		if !opt.HasValue {
			list.Content = append(list.Content, textNode(opt.Name))
			continue
		}
		pair := &yaml.Node{Kind: yaml.MappingNode}
		value := textNode(opt.Value)
		value.Style = yaml.DoubleQuotedStyle // a value that reads like a boolean would vanish
		pair.Content = append(pair.Content, textNode(opt.Name), value)
		list.Content = append(list.Content, pair)
	}
	return list
}

// encodeFree writes a free-form mapping. Texts are quoted where YAML 1.1 would take them for
// something else, which the parser's own writer does not do for all of them.
func encodeFree(m map[string]any) (*yaml.Node, error) {
	if len(m) == 0 {
		return nil, nil
	}
	return freeNode(m)
}

func freeNode(v any) (*yaml.Node, error) {
	switch v := v.(type) {
	case map[string]any:
		m := &yaml.Node{Kind: yaml.MappingNode}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			n, err := freeNode(v[key])
			if err != nil {
				return nil, err
			}
			m.Content = append(m.Content, textNode(key), n)
		}
		return m, nil
	case []any:
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			n, err := freeNode(item)
			if err != nil {
				return nil, err
			}
			list.Content = append(list.Content, n)
		}
		return list, nil
	case string:
		return textNode(v), nil
	default:
		n := &yaml.Node{}
		return n, n.Encode(v)
	}
}

// textNode writes a text so that it is read back as one, whatever it looks like.
func textNode(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	if _, err := parseBool(s); err == nil || s == "" || s == "<<" {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

func plainNode(s string, set bool) *yaml.Node {
	if !set {
		return nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: s}
}

// secondsText writes whole seconds as a plain number, which every reader of these files knows.
func secondsText(d time.Duration) string {
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10)
	}
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
}
