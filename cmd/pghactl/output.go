package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// Output formats of -o.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// Further formats of -f, which are patronictl's (row L-09).
const (
	formatPretty = "pretty"
	formatTSV    = "tsv"
)

// outputFlag is the value of -o.
type outputFlag struct{ format string }

func (o *outputFlag) add(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVarP(&o.format, "output", "o", formatTable, "output format: table, json or yaml")
	completeWith(cmd, "output", formatTable, formatJSON, formatYAML)
}

func (o *outputFlag) check() error {
	switch o.format {
	case formatTable, formatJSON, formatYAML:
		return nil
	default:
		return withHint(usagef("unknown output format %q", o.format), "use -o table, -o json or -o yaml")
	}
}

// structured says whether the result goes out as JSON or YAML, so that nothing else may be printed
// on standard output.
func (o *outputFlag) structured() bool { return o.format != formatTable }

// checkFormat normalizes the value of -f.
func checkFormat(format string) (string, error) {
	switch format {
	case "", formatPretty, formatTSV, formatJSON, formatYAML:
		return format, nil
	case "yml":
		return formatYAML, nil
	default:
		return "", withHint(usagef("unknown format %q", format), "use -f pretty, tsv, json or yaml; -o chooses pgha's own formats")
	}
}

// encode writes a value as JSON or YAML. The YAML has the same names and nesting as the JSON: it is
// made from it, so that one contract covers both.
func encode(w io.Writer, format string, value any) error {
	text, err := encodeJSON(value)
	if err != nil {
		return err
	}
	if format == formatYAML {
		if text, err = jsonToYAML(text); err != nil {
			return err
		}
	}
	_, err = w.Write(text)
	return err
}

func encodeJSON(value any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		return nil, fmt.Errorf("encode output: %w", err)
	}
	return b.Bytes(), nil
}

// jsonToYAML keeps the order of the fields and the exact numbers: JSON is a subset of YAML, so the
// node tree only has to lose its flow style.
func jsonToYAML(text []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("encode output: %w", err)
	}
	blockStyle(&doc)
	return encodeYAML(&doc)
}

func blockStyle(n *yaml.Node) {
	if (n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode) && len(n.Content) > 0 {
		n.Style = 0
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && !oldBoolean(n.Value) {
		n.Style = 0
	}
	for _, child := range n.Content {
		blockStyle(child)
	}
}

// oldBoolean names the words that readers of YAML 1.1 take for a boolean, so that they stay quoted.
func oldBoolean(text string) bool {
	switch strings.ToLower(text) {
	case "y", "n", "yes", "no", "on", "off":
		return true
	default:
		return false
	}
}

func encodeYAML(value any) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(value); err != nil {
		return nil, fmt.Errorf("encode yaml: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("encode yaml: %w", err)
	}
	return b.Bytes(), nil
}
