package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// reservedName stands for "no standby" in the key sync of a strictly synchronous cluster; a member
// of that name would be taken for nobody.
const reservedName = "__patroni_strict_sync_replica_placeholder__"

// Validate checks the configuration of an agent. The error is of type Problems and holds
// everything that is wrong. What is merely doubtful is appended to Warnings.
func (c *Config) Validate() error {
	v := &validator{c: c}
	v.identity()
	v.name()
	v.log()
	v.restAPI()
	v.ctl()
	v.etcd()
	v.postgreSQL()
	v.bootstrap()
	v.watchdog()
	v.tags()
	v.directories()
	v.embeddedEtcd()
	v.ports()
	return v.result()
}

// ValidateClient checks what a program needs that only talks to the cluster. The consensus store
// may be missing, since such a program may be told of it on its command line.
func (c *Config) ValidateClient() error {
	v := &validator{c: c}
	v.ctl()
	if c.Etcd3.named() {
		v.etcd()
	}
	return v.result()
}

// validator collects problems.
type validator struct {
	c     *Config
	found Problems
}

func (v *validator) result() error {
	slices.SortStableFunc(v.found, func(a, b Problem) int { return cmp.Compare(sectionRank(a.Path), sectionRank(b.Path)) })
	return v.found.err()
}

// sectionRank orders problems as the sections stand in the file.
func sectionRank(path string) int {
	order := []string{"scope", "name", "namespace", "log", "restapi", "ctl", "etcd3", "bootstrap", "postgresql", "watchdog", "tags", "pgha"}
	section, _, _ := strings.Cut(path, ".")
	return slices.Index(order, section)
}

// origin finds where a setting, or the nearest section above it, was given.
func (v *validator) origin(path string) string {
	return v.c.origins[path]
}

// bad notes a wrong value.
func (v *validator) bad(path, value, want string) {
	v.found = append(v.found, Problem{Path: path, Value: quoteValue(value), Want: want, Origin: v.origin(path)})
}

// missing notes a setting that must be there.
func (v *validator) missing(path, want string) {
	v.found = append(v.found, Problem{Path: path, Want: "missing: want " + want})
}

// wrong notes a contradiction in which the value itself need not be shown.
func (v *validator) wrong(path, want string) {
	v.found = append(v.found, Problem{Path: path, Want: want, Origin: v.origin(path)})
}

func (v *validator) warn(path, format string, args ...any) {
	w := Warning{Path: path, Message: fmt.Sprintf(format, args...)}
	if !slices.Contains(v.c.Warnings, w) { // it may have been validated before
		v.c.Warnings = append(v.c.Warnings, w)
	}
}

func (v *validator) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		v.bad(path, value, "want "+describeList(allowed))
	}
}

// pair checks that a certificate comes with its key and the other way round.
func (v *validator) pair(section, certName, cert, keyName, key string) {
	switch {
	case cert != "" && key == "" && strings.HasSuffix(section, "restapi"), cert != "" && key == "" && section == "ctl":
		// The key may be in the certificate's file there.
	case cert != "" && key == "":
		v.missing(join(section, keyName), "the private key of "+join(section, certName))
	case cert == "" && key != "":
		v.missing(join(section, certName), "the certificate of "+join(section, keyName))
	}
}

const wantHostPort = "want host:port, e.g. 10.0.0.1:"

// address checks one host:port that others connect to.
func (v *validator) address(path, value string, port int) {
	host, _, err := SplitHostPort(value, 0)
	switch {
	case err != nil:
		v.bad(path, value, fmt.Sprintf("%s%d", wantHostPort, port))
	case isAnyHost(host):
		v.bad(path, value, fmt.Sprintf("want an address that others can connect to, e.g. 10.0.0.1:%d", port))
	case isLoopbackHost(host):
		v.warn(path, "%s: only this machine can connect to it", quoteValue(value))
	}
}

func (v *validator) identity() {
	c := v.c
	if c.Scope == "" {
		v.missing("scope", "the name of the cluster, e.g. main")
	} else if strings.ContainsAny(c.Scope, "/\x00") || hasControl(c.Scope) {
		v.bad("scope", c.Scope, "want a name without slashes and control characters, it is part of the keys in etcd")
	}
	if hasControl(c.Namespace) {
		v.bad("namespace", c.Namespace, "want a path without control characters, e.g. /service")
	}
}

func (v *validator) name() {
	name := v.c.Name
	switch {
	case name == "":
		v.missing("name", "a name for this member, unique in the cluster, e.g. its host name")
	case name == reservedName:
		v.bad("name", name, "want another name, this one is reserved")
	case strings.ContainsAny(name, "/,*\"") || hasControl(name) || strings.TrimSpace(name) != name:
		v.bad("name", name, `want a name without / , * " and blanks at its ends, it is part of keys in etcd and of synchronous_standby_names`)
	case len(name) > 63 || strings.ContainsFunc(name, func(r rune) bool { return r > 126 }):
		v.warn("name", "%s: PostgreSQL cuts application_name to 63 characters of plain ASCII; such a member cannot be a synchronous standby", quoteValue(name))
	}
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (v *validator) log() {
	l := v.c.Log
	v.oneOf("log.type", l.Type, "plain", "json")
	const want = "want DEBUG, INFO, WARNING or ERROR"
	levels := []string{"debug", "info", "warn", "error"}
	if !slices.Contains(levels, l.Level) {
		v.bad("log.level", l.Level, want)
	}
	for _, name := range sortedStringKeys(l.Loggers) {
		if !slices.Contains(levels, l.Loggers[name]) {
			v.bad("log.loggers."+name, l.Loggers[name], want)
		}
	}
	if l.FileNum < 0 {
		v.bad("log.file_num", fmt.Sprint(l.FileNum), "want 0 or more")
	}
	if l.FileSize <= 0 {
		v.bad("log.file_size", fmt.Sprint(int64(l.FileSize)), "want a size above 0, e.g. 25MB")
	}
	if len(l.StaticFields) > 0 && l.Type != "json" {
		v.warn("log.static_fields", "has no effect unless log.type is json")
	}
}

func (v *validator) restAPI() {
	r := v.c.RestAPI
	if r.Listen == "" {
		v.missing("restapi.listen", "host:port, e.g. 0.0.0.0:8008")
		return
	}
	if _, _, err := SplitHostPort(r.Listen, 0); err != nil {
		v.bad("restapi.listen", r.Listen, wantHostPort+"8008")
	} else if host, _, _ := SplitHostPort(r.Listen, 0); r.ConnectAddress == r.Listen && isAnyHost(host) {
		// The default is a copy of listen, with which many clusters of one machine run.
		v.warn("restapi.connect_address", "%s: not an address that other members can connect to; give one, e.g. 10.0.0.1:8008", quoteValue(r.Listen))
	} else {
		v.address("restapi.connect_address", r.ConnectAddress, portRestAPI)
	}
	v.oneOf("restapi.verify_client", r.VerifyClient, VerifyClientNone, VerifyClientOptional, VerifyClientRequired)
	v.oneOf("restapi.server_tokens", r.ServerTokens, "original", "productonly", "minimal")
	v.pair("restapi", "certfile", r.CertFile, "keyfile", r.KeyFile)
	if r.VerifyClient != VerifyClientNone && r.CAFile == "" && slices.Contains([]string{VerifyClientOptional, VerifyClientRequired}, r.VerifyClient) {
		v.missing("restapi.cafile", "the authority that signed the client certificates, since restapi.verify_client is "+r.VerifyClient)
	}
	if r.VerifyClient != VerifyClientNone && r.CertFile == "" {
		v.warn("restapi.verify_client", "has no effect without restapi.certfile")
	}
	v.credentials("restapi.authentication", r.Authentication)
	for i, entry := range r.Allowlist {
		if !validNetwork(entry) {
			v.found = append(v.found, Problem{
				Path: fmt.Sprintf("restapi.allowlist[%d]", i), Value: quoteValue(entry),
				Want: "want a host name, an address or a network, e.g. 10.0.0.0/24", Origin: v.origin("restapi.allowlist"),
			})
		}
	}
}

func (v *validator) credentials(path string, c Credentials) {
	switch {
	case c.Username == "" && c.Password.IsSet():
		v.missing(path+".username", "a user name beside the password")
	case c.Username != "" && !c.Password.IsSet():
		v.missing(path+".password", "a password beside the user name")
	}
}

func validNetwork(s string) bool {
	if strings.Contains(s, "/") {
		_, err := netip.ParsePrefix(s)
		return err == nil
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`).MatchString(s)
}

func (v *validator) ctl() {
	c := v.c.Ctl
	v.pair("ctl", "certfile", c.CertFile, "keyfile", c.KeyFile)
	if v.origin("ctl.authentication") != "" {
		v.credentials("ctl.authentication", c.Authentication)
	}
}

func (v *validator) etcd() {
	e := v.c.Etcd3
	if !e.named() {
		v.missing("etcd3", "one of host, hosts, url, proxy and srv, e.g. hosts: 10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379")
		return
	}
	v.oneOf("etcd3.protocol", e.Protocol, "http", "https")
	if e.Port < 1 || e.Port > 65535 {
		v.bad("etcd3.port", fmt.Sprint(e.Port), "want a port between 1 and 65535")
		return
	}
	v.endpoint("etcd3.host", e.Host)
	for i, host := range e.Hosts {
		v.endpoint(fmt.Sprintf("etcd3.hosts[%d]", i), host)
	}
	v.endpoint("etcd3.url", e.URL)
	v.endpoint("etcd3.proxy", e.Proxy)
	v.pair("etcd3", "cert", e.Cert, "key", e.Key)
	if e.CACert != "" && e.Protocol == "http" && !e.anyTLS() {
		v.warn("etcd3.cacert", "the connection is not encrypted: etcd3.protocol is http")
	}
	if e.Username == "" && e.Password.IsSet() {
		v.missing("etcd3.username", "a user name beside the password")
	}
}

func (e Etcd3) anyTLS() bool {
	return slices.ContainsFunc(e.Endpoints(), func(s string) bool { return strings.HasPrefix(s, "https://") })
}

// endpoint checks the address of an etcd server: [http[s]://]host[:port][/].
func (v *validator) endpoint(path, value string) {
	if value == "" {
		return
	}
	rest := value
	if protocol, after, ok := strings.Cut(value, "://"); ok {
		if protocol != "http" && protocol != "https" {
			v.endpointProblem(path, value, "want http:// or https:// in front, or nothing")
			return
		}
		rest = after
	}
	rest, _, _ = strings.Cut(rest, "/")
	host, _, err := SplitHostPort(rest, v.c.Etcd3.Port)
	if err != nil || isAnyHost(host) {
		v.endpointProblem(path, value, wantHostPort+"2379")
	}
}

func (v *validator) endpointProblem(path, value, want string) {
	list, _, _ := strings.Cut(path, "[")
	if strings.Contains(value, "@") {
		value = "…" // a password may stand there
	}
	v.found = append(v.found, Problem{Path: path, Value: quoteValue(value), Want: want, Origin: v.origin(list)})
}
