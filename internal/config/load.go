package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Load reads the configuration of an agent from a file, or from a directory whose *.yml and *.yaml
// files are merged in the order of their names, and from environment variables (NAME=value, as
// os.Environ gives them), which win over files (C-001 to C-003). If path is empty or does not
// exist the environment is all there is.
//
// The result is complete and valid. The error is of type Problems, with everything that is wrong,
// when the sources could be read.
func Load(path string, environ []string) (*Config, error) {
	return load(path, environ, (*Config).Validate)
}

// LoadClient is Load for a program that only talks to a cluster, such as pghactl: settings of the
// local server may be missing.
func LoadClient(path string, environ []string) (*Config, error) {
	return load(path, environ, (*Config).ValidateClient)
}

// Parse is Load for a text; name stands for it in messages.
func Parse(name string, text []byte, environ []string) (*Config, error) {
	tree, err := parseFile(name, text)
	if err != nil {
		return nil, err
	}
	return build(tree, environ, nil, (*Config).Validate)
}

func load(path string, environ []string, validate func(*Config) error) (*Config, error) {
	tree, found, err := readTree(path)
	if err != nil {
		return nil, err
	}
	if found {
		return build(tree, environ, nil, validate)
	}
	env := parseEnviron(environ)
	for _, prefix := range []string{prefixPgha, prefixPatroni} {
		name := prefix + configurationVariable
		text, ok := env[name]
		if !ok {
			continue
		}
		if tree, err = parseFile(name, []byte(text)); err != nil {
			return nil, err
		}
		return build(tree, nil, nil, validate)
	}
	if tree, _ := fromEnvironment(env); len(tree.keys) == 0 && path != "" {
		return nil, fmt.Errorf("config %s: no such file or directory, and no %s* variables", path, prefixPgha)
	}
	var warnings []Warning
	if path != "" {
		warnings = append(warnings, Warning{Message: "config " + path + " does not exist: settings come from environment variables alone"})
	}
	return build(newMap(path), environ, warnings, validate)
}

// readTree reads a file or directory. The second result is false if there is none.
func readTree(path string) (*node, bool, error) {
	if path == "" {
		return nil, false, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("config: %w", err)
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = filesIn(path); err != nil {
			return nil, false, err
		}
	}
	root := newMap(path)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, false, fmt.Errorf("config: %w", err)
		}
		tree, err := parseFile(file, data)
		if err != nil {
			return nil, false, err
		}
		root.merge(tree)
	}
	return root, true, nil
}

func filesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	var files []string
	for _, entry := range entries {
		ext := filepath.Ext(entry.Name())
		if (ext == ".yml" || ext == ".yaml") && !entry.IsDir() {
			files = append(files, filepath.Join(dir, entry.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("config %s: the directory has no *.yml or *.yaml file", dir)
	}
	slices.Sort(files)
	return files, nil
}

func parseFile(name string, text []byte) (*node, error) {
	tree, err := parseYAML(name, text)
	if err != nil {
		return nil, err
	}
	switch tree.kind {
	case mapNode:
		return tree, nil
	case nullNode:
		return newMap(name), nil
	default:
		return nil, fmt.Errorf("%s: want a mapping of settings, this is %s", name, tree.describe())
	}
}

// build makes a Config of a tree and the environment.
func build(root *node, environ []string, warnings []Warning, validate func(*Config) error) (*Config, error) {
	vars, unknown := fromEnvironment(parseEnviron(environ))
	warnings = append(warnings, unknown...)
	dropAliases(root, vars)
	root.merge(vars)
	if len(root.keys) == 0 {
		return nil, errors.New("config: empty: no setting in a file or in the environment")
	}
	modernize(root)
	problems, ignored, doubts := chooseStore(root)
	warnings = append(warnings, doubts...)

	c := Default()
	d := newDecoder()
	d.ignoredKeys = ignoredKeys()
	d.structure("", root, addressable(c))
	problems = append(problems, d.problems...)
	c.Ignored = append(ignored, d.ignored...)
	for _, w := range Effective(c, Dynamic{}).Warnings {
		if why, ok := strings.CutPrefix(w.Message, "ignored: "); ok {
			c.Ignored = append(c.Ignored, w.Path+": "+why)
		} else {
			c.Warnings = append(c.Warnings, w)
		}
	}
	c.Warnings = warnings
	c.origins = d.origins
	c.complete()

	if err := validate(c); err != nil {
		var more Problems
		if !errors.As(err, &more) {
			return nil, err
		}
		problems = append(problems, unreported(more, problems)...)
	}
	if err := problems.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// unreported leaves out what follows from a problem already named: a value that could not be read
// is missing afterwards, too.
func unreported(more, known Problems) Problems {
	return slices.DeleteFunc(more, func(p Problem) bool {
		for _, k := range known {
			if k.Path == p.Path || strings.HasPrefix(k.Path, p.Path+".") || strings.HasPrefix(p.Path, k.Path+".") {
				return true
			}
			if k.Path != "" && strings.HasPrefix(p.Path, "etcd3") && slices.Contains(storeSections(), k.Path) {
				return true
			}
		}
		return false
	})
}

// dropAliases removes from the file what a variable sets under another name.
func dropAliases(root, vars *node) {
	for _, section := range []string{"etcd", "etcd3"} {
		if vars.get(section).get("srv") == nil || root.get(section) == nil {
			continue
		}
		for _, alias := range []string{"discovery_srv", "srv_domain"} {
			root.get(section).remove(alias)
		}
	}
}
