package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The parts of a compose file that the checks look at.
type composeFile struct {
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]any            `yaml:"volumes"`
}

type composeService struct {
	Image string `yaml:"image"`
	Build struct {
		Context    string `yaml:"context"`
		Dockerfile string `yaml:"dockerfile"`
	} `yaml:"build"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []string          `yaml:"volumes"`
	Entrypoint  []string          `yaml:"entrypoint"`
	CapAdd      []string          `yaml:"cap_add"`
	Ports       []string          `yaml:"ports"`
}

type etcdFile struct {
	Pgha struct {
		Etcd struct {
			Name           string            `yaml:"name"`
			AdvertisePeer  string            `yaml:"advertise_peer"`
			InitialCluster map[string]string `yaml:"initial_cluster"`
		} `yaml:"etcd"`
	} `yaml:"pgha"`
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(readFile(t, path)), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestComposeFileNamesOnlyWhatExists(t *testing.T) {
	var file composeFile
	readYAML(t, "compose/compose.yml", &file)

	for _, name := range []string{"a", "b", "c", "etcd1", "etcd2", "etcd3", "haproxy"} {
		if _, ok := file.Services[name]; !ok {
			t.Errorf("no service %s", name)
		}
	}
	mounted := map[string]string{}
	for name, service := range file.Services {
		if service.Build.Context != "" {
			dockerfile := filepath.Join("compose", service.Build.Context, service.Build.Dockerfile)
			if _, err := os.Stat(dockerfile); err != nil {
				t.Errorf("service %s: %v", name, err)
			}
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if strings.HasPrefix(source, ".") {
				if _, err := os.Stat(filepath.Join("compose", source)); err != nil {
					t.Errorf("service %s: %v", name, err)
				}
				continue
			}
			if _, ok := file.Volumes[source]; !ok {
				t.Errorf("service %s: volume %s is not declared", name, source)
			}
			if other, taken := mounted[source]; taken {
				t.Errorf("volume %s is shared by %s and %s", source, name, other)
			}
			mounted[source] = name
		}
	}
}

func TestComposeMembersHaveTheirOwnNames(t *testing.T) {
	var file composeFile
	readYAML(t, "compose/compose.yml", &file)

	for _, name := range []string{"a", "b", "c"} {
		environment := file.Services[name].Environment
		if got := environment["PATRONI_NAME"]; got != name {
			t.Errorf("service %s: PATRONI_NAME is %q", name, got)
		}
		if got := environment["POSTGRES_PASSWORD"]; !strings.Contains(got, ":?") {
			t.Errorf("service %s: POSTGRES_PASSWORD has a default: %q", name, got)
		}
	}
	for _, port := range file.Services["haproxy"].Ports {
		if !strings.HasPrefix(port, "127.0.0.1:") {
			t.Errorf("haproxy: port %s is open to the network", port)
		}
	}
}

func TestComposeEtcdMembersAgreeOnTheirCluster(t *testing.T) {
	var first etcdFile
	readYAML(t, "compose/etcd1.yml", &first)
	for _, name := range []string{"etcd1", "etcd2", "etcd3"} {
		var file etcdFile
		readYAML(t, "compose/"+name+".yml", &file)
		etcd := file.Pgha.Etcd
		if etcd.Name != name {
			t.Errorf("%s.yml: name is %q", name, etcd.Name)
		}
		if got := etcd.InitialCluster[name]; got != etcd.AdvertisePeer {
			t.Errorf("%s.yml: advertises peer %q, initial cluster has %q", name, etcd.AdvertisePeer, got)
		}
		if len(etcd.InitialCluster) != 3 {
			t.Errorf("%s.yml: initial cluster has %d members", name, len(etcd.InitialCluster))
		}
		for member, address := range first.Pgha.Etcd.InitialCluster {
			if etcd.InitialCluster[member] != address {
				t.Errorf("%s.yml: member %s at %q, etcd1.yml says %q",
					name, member, etcd.InitialCluster[member], address)
			}
		}
	}
}

// TestMembersMayCloseTheWire: the container has the right, and the program file can take it up without
// root.
func TestMembersMayCloseTheWire(t *testing.T) {
	var file composeFile
	readYAML(t, "compose/compose.yml", &file)
	for _, name := range []string{"a", "b", "c"} {
		if got := strings.Join(file.Services[name].CapAdd, " "); got != "NET_ADMIN" {
			t.Errorf("service %s: cap_add = %q", name, got)
		}
	}
	if !strings.Contains(readFile(t, "docker/Dockerfile"), "setcap cap_net_admin+p /usr/bin/pgha-agent") {
		t.Error("the program in the image cannot take up the right")
	}
}

func TestDockerfileCopiesOnlyWhatExists(t *testing.T) {
	ignored := strings.Fields(readFile(t, "docker/Dockerfile.dockerignore"))
	var copies int
	for line := range strings.Lines(readFile(t, "docker/Dockerfile")) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "COPY" || strings.HasPrefix(fields[1], "--from=") {
			continue
		}
		for _, source := range fields[1 : len(fields)-1] {
			copies++
			if _, err := os.Stat(filepath.Join("..", source)); err != nil {
				t.Errorf("COPY %s: %v", source, err)
			}
			if !sentToBuilder(ignored, source) {
				t.Errorf("COPY %s: left out by Dockerfile.dockerignore", source)
			}
		}
	}
	if copies < 6 {
		t.Errorf("found %d sources of COPY: the check reads the file wrongly", copies)
	}
}

// sentToBuilder says whether one of the ignore file's exceptions lets a path through.
func sentToBuilder(ignored []string, path string) bool {
	return slices.ContainsFunc(ignored, func(pattern string) bool {
		kept, exception := strings.CutPrefix(pattern, "!")
		return exception && (path == kept || strings.HasPrefix(path, kept+"/"))
	})
}

func TestExamplesDifferOnlyInNameAndAddress(t *testing.T) {
	settings := func(name, address string) string {
		var lines []string
		for line := range strings.Lines(readFile(t, "examples/"+name+".yml")) {
			switch trimmed := strings.TrimSpace(line); {
			case trimmed == "" || strings.HasPrefix(trimmed, "#"):
			case strings.HasPrefix(trimmed, "initial_cluster:"), strings.HasPrefix(trimmed, "client_hosts:"):
				lines = append(lines, line)
			default:
				line = strings.Replace(line, "name: "+name+"\n", "name: NAME\n", 1)
				lines = append(lines, strings.Replace(line, address+":", "ADDRESS:", 1))
			}
		}
		return strings.Join(lines, "")
	}
	want := settings("a", "10.0.0.1")
	for name, address := range map[string]string{"b": "10.0.0.2", "c": "10.0.0.3"} {
		if got := settings(name, address); got != want {
			t.Errorf("examples/%s.yml:\n%s\nexamples/a.yml:\n%s", name, got, want)
		}
	}
	if !strings.Contains(want, "connect_address: ADDRESS:5432") {
		t.Error("the check does not find the addresses")
	}
}
