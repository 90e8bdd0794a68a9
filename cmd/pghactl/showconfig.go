package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

func newShowConfigCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show-config [CLUSTER]",
		Short: "Show the dynamic configuration",
		Long: `Show the dynamic configuration of a cluster, as it is stored: settings that are not there have their defaults.
The table format is YAML here, with sorted keys.`,
		Example: `  pghactl show-config demo
  pghactl show-config demo -o json | jq .ttl`,
		Args: optionalCluster(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runShowConfig(cmd.Context(), firstArg(args))
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}

func (a *app) runShowConfig(ctx context.Context, name string) error {
	c, err := a.load(ctx, name)
	if err != nil {
		return err
	}
	if !c.config.exists {
		a.env.say("cluster %s has no dynamic configuration", c.scope)
		return nil
	}
	doc, err := parseConfigJSON(c.config.raw)
	if err != nil {
		return err
	}
	if a.out.format == formatJSON {
		return encode(a.env.stdout, formatJSON, doc)
	}
	return encode(a.env.stdout, formatYAML, doc)
}

// parseConfigJSON keeps numbers as they are written.
func parseConfigJSON(raw []byte) (map[string]any, error) {
	doc := map[string]any{}
	if len(raw) == 0 {
		return doc, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		return map[string]any{}, fmt.Errorf("the stored configuration is no JSON object: %w", err)
	}
	return doc, nil
}

// parseConfigYAML reads a document that somebody wrote, in the types that JSON has: a date stays the
// text that it is, and keys are texts.
func parseConfigYAML(text []byte) (any, error) {
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		return nil, fmt.Errorf("read yaml: %w", err)
	}
	if node.Kind == 0 {
		return nil, nil
	}
	return yamlValue(&node, 0)
}

// parseConfigObject is parseConfigYAML for a whole configuration.
func parseConfigObject(text []byte) (map[string]any, error) {
	value, err := parseConfigYAML(text)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return map[string]any{}, nil
	}
	doc, ok := value.(map[string]any)
	if !ok {
		return nil, withHint(fmt.Errorf("the configuration is not a mapping of names to values"), "write lines such as \"ttl: 20\"")
	}
	return doc, nil
}

// maxDepth bounds the nesting, so that an alias that contains itself ends.
const maxDepth = 50

func yamlValue(n *yaml.Node, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("read yaml: nested too deeply at line %d", n.Line)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return yamlValue(n.Content[0], depth)
	case yaml.AliasNode:
		return yamlValue(n.Alias, depth+1)
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
				return nil, fmt.Errorf("read yaml: line %d: a key must be a plain name", key.Line)
			}
			value, err := yamlValue(n.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			out[key.Value] = value
		}
		return out, nil
	case yaml.SequenceNode:
		out := []any{}
		for _, item := range n.Content {
			value, err := yamlValue(item, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, value)
		}
		return out, nil
	default:
		return yamlScalar(n)
	}
}

func yamlScalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		err := n.Decode(&b)
		return b, err
	case "!!int":
		var i int64
		if err := n.Decode(&i); err != nil {
			return n.Value, nil //nolint:nilerr // a number too large for us stays the text it is
		}
		return json.Number(strconv.FormatInt(i, 10)), nil
	case "!!float":
		var f float64
		if err := n.Decode(&f); err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return n.Value, nil //nolint:nilerr // JSON has no such number
		}
		return json.Number(strconv.FormatFloat(f, 'g', -1, 64)), nil
	default:
		return n.Value, nil
	}
}

// configYAML writes a configuration for people: sorted, one setting a line, which makes good diffs.
func configYAML(doc map[string]any) ([]byte, error) {
	if len(doc) == 0 {
		return nil, nil
	}
	text, err := encodeJSON(doc)
	if err != nil {
		return nil, err
	}
	return jsonToYAML(text)
}
