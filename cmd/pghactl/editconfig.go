package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/dcs"
)

type editOptions struct {
	quiet   bool
	set     []string
	pg      []string
	apply   string
	replace string
	force   bool
}

func (o editOptions) interactive() bool {
	return len(o.set) == 0 && len(o.pg) == 0 && o.apply == "" && o.replace == ""
}

func newEditConfigCmd(a *app) *cobra.Command {
	var opt editOptions
	cmd := &cobra.Command{
		Use:   "edit-config [CLUSTER]",
		Short: "Change the dynamic configuration",
		Long: `Change the dynamic configuration: of all members, at once, kept in the consensus store.

Without -s, -p, --apply or --replace an editor opens (EDITOR, else editor, else vi). Otherwise the changes
are made in the order replace, apply, set. Values are YAML; null deletes a setting. The dots of a name
descend into sections, but not below postgresql.parameters.

The difference is shown and confirmed. It is written only if nobody else changed the configuration
meanwhile, and only if its timing makes sense.`,
		Example: `  pghactl edit-config demo
  pghactl edit-config demo -s ttl=15 -s synchronous_mode=true --force
  pghactl edit-config demo -p max_connections=200
  pghactl edit-config demo --apply patch.yml
  pghactl edit-config demo --replace - --force < whole.yml`,
		Args: optionalCluster(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runEditConfig(cmd.Context(), firstArg(args), opt)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.BoolVarP(&opt.quiet, "quiet", "q", false, "do not show the difference")
	f.StringArrayVarP(&opt.set, "set", "s", nil, "set NAME=VALUE; may be repeated")
	f.StringArrayVarP(&opt.pg, "pg", "p", nil, "set a PostgreSQL parameter, NAME=VALUE; may be repeated")
	f.StringVar(&opt.apply, "apply", "", "merge a YAML file into the configuration, - for standard input")
	f.StringVar(&opt.replace, "replace", "", "replace the configuration by a YAML file, - for standard input")
	addForce(cmd, &opt.force)
	return cmd
}

// editView is the result of edit-config (documented output).
type editView struct {
	Cluster string         `json:"cluster"`
	Changed bool           `json:"changed"`
	Diff    string         `json:"diff,omitempty"`
	Config  map[string]any `json:"config"`
}

func (a *app) runEditConfig(ctx context.Context, name string, opt editOptions) error {
	if (opt.apply == "-" || opt.replace == "-") && !opt.force {
		return withHint(usagef("standard input cannot be the configuration and answer questions too"), "add --force")
	}
	if opt.apply == "-" && opt.replace == "-" {
		return usagef("--apply and --replace cannot both read standard input")
	}
	s, err := a.connect(ctx, name)
	if err != nil {
		return err
	}
	defer s.close()
	c, err := s.load(ctx)
	if err != nil {
		return err
	}
	before, err := parseConfigJSON(c.config.raw)
	if err != nil && opt.replace == "" {
		return withHint(err, "replace the whole: pghactl edit-config %s --replace FILE", c.scope)
	}
	ask := newAsker(a.env, opt.force)
	var after map[string]any
	if opt.interactive() {
		after, err = a.editByHand(ctx, c, before, ask)
	} else {
		after, err = a.editByFlags(before, opt)
	}
	if err != nil {
		return err
	}
	return a.writeConfig(ctx, s, c, before, after, opt, ask)
}

func (a *app) writeConfig(ctx context.Context, s *session, c *cluster, before, after map[string]any, opt editOptions, ask *asker) error {
	view := editView{Cluster: c.scope, Config: after}
	text, err := configDiff(before, after)
	if err != nil {
		return err
	}
	view.Diff, view.Changed = text, text != ""
	if !view.Changed {
		return a.printEdit(view, "Not changed")
	}
	if !opt.quiet && !a.out.structured() {
		fmt.Fprint(a.env.stdout, text)
	}
	if err := a.checkConfig(c, before, after); err != nil {
		return err
	}
	if err := ask.confirm("Apply these changes to cluster " + c.scope + "?"); err != nil {
		return err
	}
	value, err := json.Marshal(after)
	if err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	res, err := s.store.Apply(ctx, dcs.ReplaceConfig(c.config.modRevision, value))
	if err != nil {
		return withHint(fmt.Errorf("write configuration: %w", err), "see whether it arrived: pghactl show-config %s", c.scope)
	}
	if !res.Done {
		return withHint(fmt.Errorf("somebody else changed the configuration meanwhile; nothing was written"), "do it again on the new one")
	}
	return a.printEdit(view, "Configuration changed")
}

func (a *app) printEdit(view editView, message string) error {
	if a.out.structured() {
		return encode(a.env.stdout, a.out.format, view)
	}
	fmt.Fprintln(a.env.stdout, message)
	return nil
}

// checkConfig refuses a change that makes no sense. What was wrong before and is not touched is only
// mentioned: an operator in trouble must be able to change something else.
func (a *app) checkConfig(c *cluster, before, after map[string]any) error {
	var first *configProblem
	for _, p := range configProblems(c, after) {
		touched := false
		for _, key := range p.keys {
			touched = touched || !reflect.DeepEqual(before[key], after[key])
		}
		if !touched || p.mild {
			a.env.say("warning: %s (%s)", p.what, p.remedy)
			continue
		}
		if first == nil {
			first = &p
		}
	}
	if first == nil {
		return nil
	}
	return withHint(fmt.Errorf("%s; nothing was written", first.what), "%s", first.remedy)
}

// configDiff is the unified difference of the two in YAML, empty if they are the same.
func configDiff(before, after map[string]any) (string, error) {
	old, err := configYAML(before)
	if err != nil {
		return "", err
	}
	changed, err := configYAML(after)
	if err != nil {
		return "", err
	}
	text := diff.Diff("before", old, "after", changed)
	if _, rest, ok := bytes.Cut(text, []byte("\n")); ok {
		text = rest // the first line only repeats the names
	}
	return string(text), nil
}

// editByFlags makes the changes of the command line, in the order of row L-31.
func (a *app) editByFlags(before map[string]any, opt editOptions) (map[string]any, error) {
	doc := deepCopy(before)
	if opt.replace != "" {
		text, err := a.readSource(opt.replace)
		if err != nil {
			return nil, err
		}
		if doc, err = parseConfigObject(text); err != nil {
			return nil, fmt.Errorf("%s: %w", opt.replace, err)
		}
	}
	if opt.apply != "" {
		text, err := a.readSource(opt.apply)
		if err != nil {
			return nil, err
		}
		patch, err := parseConfigObject(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", opt.apply, err)
		}
		mergePatch(doc, patch)
	}
	for _, assignment := range opt.set {
		if err := applySet(doc, assignment, ""); err != nil {
			return nil, err
		}
	}
	for _, assignment := range opt.pg {
		if err := applySet(doc, assignment, parametersPath); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

func (a *app) readSource(path string) ([]byte, error) {
	if path == "-" {
		text, err := io.ReadAll(a.env.stdin)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return text, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read changes: %w", err)
	}
	return text, nil
}

const parametersPath = "postgresql.parameters."

// applySet carries out one NAME=VALUE. prefix is put before the name.
func applySet(doc map[string]any, assignment, prefix string) error {
	name, text, ok := strings.Cut(assignment, "=")
	name = strings.TrimSpace(name)
	if !ok || name == "" {
		return withHint(usagef("cannot read the change %q", assignment), "write NAME=VALUE, and NAME=null to delete a setting")
	}
	value, err := parseConfigYAML([]byte(text))
	if err != nil {
		return withHint(usagef("the value of %s: %w", name, err), "put a text with special characters in double quotes inside the shell's single ones")
	}
	path := settingPath(prefix + name)
	for i, step := range path {
		if step == "" {
			return withHint(usagef("cannot read the name %q", name), "write a name such as ttl or postgresql.parameters.work_mem")
		}
		if i == len(path)-1 {
			if value == nil {
				delete(doc, step)
			} else {
				doc[step] = value
			}
			return nil
		}
		next, ok := doc[step].(map[string]any)
		if !ok {
			if value == nil {
				return nil // nothing there to delete
			}
			next = map[string]any{}
			doc[step] = next
		}
		doc = next
	}
	return nil
}

// settingPath splits a name at its dots. A PostgreSQL parameter may have a dot in its own name.
func settingPath(name string) []string {
	if rest, ok := strings.CutPrefix(name, parametersPath); ok {
		return []string{"postgresql", "parameters", rest}
	}
	return strings.Split(name, ".")
}

// mergePatch merges maps, lets null delete, and replaces everything else (row R-098).
func mergePatch(doc, patch map[string]any) {
	for key, value := range patch {
		switch v := value.(type) {
		case nil:
			delete(doc, key)
		case map[string]any:
			old, ok := doc[key].(map[string]any)
			if !ok {
				old = map[string]any{}
			}
			mergePatch(old, v)
			doc[key] = old
		default:
			doc[key] = value
		}
	}
}

func deepCopy(doc map[string]any) map[string]any {
	out := make(map[string]any, len(doc))
	for key, value := range doc {
		if m, ok := value.(map[string]any); ok {
			value = deepCopy(m)
		}
		out[key] = value
	}
	return out
}

// editByHand opens an editor until what was written can be read and makes sense, or the operator
// gives up.
func (a *app) editByHand(ctx context.Context, c *cluster, before map[string]any, ask *asker) (map[string]any, error) {
	if !a.env.stdinTTY {
		return nil, withHint(usagef("standard input is not a terminal, so no editor can be opened"), "use -s NAME=VALUE, --apply FILE or --replace FILE")
	}
	text, err := configYAML(before)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pghactl-")
	if err != nil {
		return nil, fmt.Errorf("make a temporary directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // in the system's place for what may be lost
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, fmt.Errorf("write a temporary file: %w", err)
	}
	for {
		if err := a.env.edit(ctx, path); err != nil {
			return nil, err
		}
		edited, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the edited file: %w", err)
		}
		after, err := parseConfigObject(edited)
		if err == nil {
			err = a.checkConfig(c, before, after)
		}
		if err == nil {
			return after, nil
		}
		reportError(a.env.stderr, err)
		if ask.confirm("Edit it again?") != nil {
			return nil, errAborted
		}
	}
}
