package restapi

import (
	"encoding/json"
	"html"
	"maps"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// serve finds the handler for method and first path segment (row R-002); the rest of the path
// counts only for health checks and below /pgha.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	defer s.recovered(w, r)
	switch r.Method {
	case http.MethodGet:
		s.get(w, r)
	case http.MethodHead, http.MethodOptions:
		// Always the health check, never a body (row R-003).
		w.WriteHeader(healthCode(observe(s.node).healthy(r.URL.Path, parseQuery(r))))
	default:
		s.change(w, r)
	}
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	switch segment(r.URL.Path) {
	case "patroni":
		s.getPatroni(w, r)
	case "cluster":
		s.getCluster(w, r)
	case "history":
		s.getHistory(w)
	case "config":
		s.getStored(w, "config", func(v ViewState) json.RawMessage { return v.Config })
	case "failsafe":
		s.getStored(w, "failsafe", func(v ViewState) json.RawMessage { return v.Failsafe })
	case "metrics":
		s.setHeaders(w)
		s.metrics.ServeHTTP(w, r)
	case "liveness":
		w.WriteHeader(healthCode(observe(s.node).live()))
	case "readiness":
		w.WriteHeader(healthCode(observe(s.node).ready(parseQuery(r))))
	case "pgha":
		s.getPgha(w, r)
	default:
		s.getHealth(w, r)
	}
}

// segment is the first element of a path.
func segment(path string) string {
	path = strings.TrimPrefix(path, "/")
	first, _, _ := strings.Cut(path, "/")
	return first
}

func healthCode(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

func (s *Server) getHealth(w http.ResponseWriter, r *http.Request) {
	m := observe(s.node)
	s.write(w, healthCode(m.healthy(r.URL.Path, parseQuery(r))), typeJSON, s.healthBody(m))
}

// encodedBody is a health body with what it was made from.
type encodedBody struct {
	state *State
	flags bodyFlags
	body  []byte
}

// bodyFlags are the parts of a body that change with time alone.
type bodyFlags struct {
	view, failsafe bool
	state          string
}

// healthBody encodes the body once per published State rather than once per request. Two requests
// may both do it; the loser's work is dropped.
func (s *Server) healthBody(m moment) []byte {
	flags := bodyFlags{m.view, m.failsafeActive(), string(m.serverState())}
	if c := s.lastBody.Load(); c != nil && c.state == m.State && c.flags == flags {
		return c.body
	}
	body := encodeStatus(m.status())
	s.lastBody.Store(&encodedBody{m.State, flags, body})
	return body
}

// Content types of row R-001.
const (
	typeJSON = "application/json"
	typeText = "text/html"
)

func (s *Server) setHeaders(w http.ResponseWriter) {
	set := s.settings.Load()
	h := w.Header()
	maps.Copy(h, set.headers)
	if set.serverHeader != "" {
		h.Set("Server", strings.ReplaceAll(set.serverHeader, "%", s.node.State().Version))
	}
}

// write sends one answer whole. An error in sending means that the client is gone.
func (s *Server) write(w http.ResponseWriter, code int, contentType string, body []byte) {
	s.setHeaders(w)
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if contentType == typeText {
		// The texts are not meant to be pages, whatever name a candidate has.
		h.Set("Content-Security-Policy", "default-src 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
	}
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

func (s *Server) writeText(w http.ResponseWriter, code int, text string) {
	s.write(w, code, typeText, []byte(text))
}

// writePage sends an error in the form of a page (the rows marked html).
func (s *Server) writePage(w http.ResponseWriter, code int, text string) {
	title := strconv.Itoa(code) + " " + http.StatusText(code)
	page := "<!DOCTYPE html>\n<html><head><title>" + title + "</title></head>\n<body><h1>" + title +
		"</h1><p>" + html.EscapeString(text) + "</p></body></html>\n"
	s.write(w, code, typeText, []byte(page))
}

func (s *Server) writeReply(w http.ResponseWriter, r Reply) {
	switch {
	case r.Code < 100 || r.Code > 999:
		s.writePage(w, http.StatusInternalServerError, "the agent gave no answer")
	case r.JSON != nil:
		s.write(w, r.Code, typeJSON, r.JSON)
	case r.Page:
		s.writePage(w, r.Code, r.Text)
	default:
		s.writeText(w, r.Code, r.Text)
	}
}

// recovered turns a panic in a handler into an answer and a log line; the agent goes on.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	s.log.Error("request handler panicked", zap.String("method", r.Method), zap.String("path", r.URL.Path),
		zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
	s.writePage(w, http.StatusInternalServerError, "internal error")
}
