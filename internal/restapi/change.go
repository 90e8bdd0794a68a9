package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// bodyRule says what a request must bring along (row R-010).
type bodyRule uint8

const (
	noBody bodyRule = iota
	optionalObject
	requiredObject
)

// change describes one endpoint that changes something.
type change struct {
	body bodyRule
	run  func(s *Server, ctx context.Context, body json.RawMessage) Reply
}

// findChange is the table of row R-005. POST /citus, /mpp and /sigterm are not served.
func findChange(method, segment string) (change, bool) {
	switch method + " " + segment {
	case "PATCH config":
		return change{requiredObject, (*Server).patchConfig}, true
	case "PUT config":
		return change{requiredObject, (*Server).putConfig}, true
	case "POST switchover":
		return change{requiredObject, (*Server).switchover}, true
	case "POST failover":
		return change{requiredObject, (*Server).failover}, true
	case "DELETE switchover":
		return change{noBody, func(s *Server, ctx context.Context, _ json.RawMessage) Reply {
			return s.node.CancelSwitchover(ctx)
		}}, true
	case "POST restart":
		return change{optionalObject, (*Server).restart}, true
	case "DELETE restart":
		return change{noBody, func(s *Server, ctx context.Context, _ json.RawMessage) Reply {
			return s.node.CancelRestart(ctx)
		}}, true
	case "POST reload":
		return change{noBody, func(s *Server, ctx context.Context, _ json.RawMessage) Reply {
			return s.node.Reload(ctx)
		}}, true
	case "POST reinitialize":
		return change{optionalObject, (*Server).reinitialize}, true
	}
	return change{}, false
}

// change handles every method that is not for reading: who may, then what is asked, then the
// agent, then one line in the log about it.
func (s *Server) change(w http.ResponseWriter, r *http.Request) {
	seg := segment(r.URL.Path)
	failsafe := r.Method == http.MethodPost && seg == "failsafe"
	c, known := findChange(r.Method, seg)
	if !known && !failsafe {
		s.writePage(w, http.StatusNotImplemented, "Server does not support this operation")
		return
	}
	set := s.settings.Load()
	if err := set.admit(r, s.node.State(), !failsafe); err != nil {
		s.refuse(w, r, err)
		return
	}
	if failsafe {
		s.failsafe(w, r, set)
		return
	}
	body, failure := readObject(w, r, c.body, set.maxBody)
	if failure != nil {
		s.writeReply(w, *failure)
		return
	}
	select {
	case s.operations <- struct{}{}:
		defer func() { <-s.operations }()
	default:
		s.writeReply(w, Refused(http.StatusServiceUnavailable, "too many operations already in progress"))
		return
	}
	s.runChange(w, r, c, body, set.operationLimit)
}

// runChange lets the agent carry the change out. A client that goes away does not end it: half a
// switchover is worse than one that nobody watches.
func (s *Server) runChange(w http.ResponseWriter, r *http.Request, c change, body json.RawMessage, limit time.Duration) {
	// The answer may come long after the deadline that suits everything else. A connection
	// without deadlines (in tests) has nothing to move.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit + writeTimeout))
	ctx, cancel := context.WithTimeout(s.base, limit)
	defer cancel()
	began := time.Now()
	reply := c.run(s, ctx, body)
	user, _, _ := r.BasicAuth()
	s.log.Info("change requested", zap.String("method", r.Method), zap.String("path", r.URL.Path),
		zap.String("remote", r.RemoteAddr), zap.String("user", user), zap.Int("code", reply.Code),
		zap.String("answer", reply.Text), zap.Duration("duration", time.Since(began)))
	s.writeReply(w, reply)
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, reason error) {
	s.log.Warn("change refused", zap.String("method", r.Method), zap.String("path", r.URL.Path),
		zap.String("remote", r.RemoteAddr), zap.Error(reason))
	code := http.StatusForbidden
	if errors.Is(reason, errNoAuth) || errors.Is(reason, errUnauthorized) {
		code = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Basic realm="Patroni"`)
	}
	s.writeText(w, code, reason.Error())
}

// readObject reads a JSON object from the body, or says why not.
func readObject(w http.ResponseWriter, r *http.Request, rule bodyRule, limit int64) (json.RawMessage, *Reply) {
	if rule == noBody {
		return nil, nil
	}
	page := func(code int, text string) *Reply { return &Reply{Code: code, Text: text, Page: true} }
	if r.Header.Get("Content-Length") == "" {
		if rule == optionalObject && r.ContentLength == 0 {
			return json.RawMessage("{}"), nil
		}
		return nil, page(http.StatusLengthRequired, "the request has no Content-Length")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, page(http.StatusRequestEntityTooLarge, "the request body is too large")
	}
	if err != nil {
		return nil, page(http.StatusBadRequest, "the request body ended early")
	}
	if len(body) == 0 && rule == optionalObject {
		return json.RawMessage("{}"), nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil || object == nil {
		return nil, page(http.StatusBadRequest, "the request body is not a JSON object")
	}
	if len(object) == 0 && rule == requiredObject {
		return nil, page(http.StatusBadRequest, "the request body is an empty object")
	}
	return body, nil
}

func (s *Server) patchConfig(ctx context.Context, body json.RawMessage) Reply {
	return s.node.PatchConfig(ctx, body)
}

func (s *Server) putConfig(ctx context.Context, body json.RawMessage) Reply {
	return s.node.PutConfig(ctx, body)
}

func (s *Server) switchover(ctx context.Context, body json.RawMessage) Reply {
	req, refusal := parseSwitchover(body, false, s.node.State().Pause, time.Now())
	if refusal != nil {
		return *refusal
	}
	return s.node.Switchover(ctx, req)
}

func (s *Server) failover(ctx context.Context, body json.RawMessage) Reply {
	req, refusal := parseSwitchover(body, true, s.node.State().Pause, time.Now())
	if refusal != nil {
		return *refusal
	}
	return s.node.Switchover(ctx, req)
}

func (s *Server) restart(ctx context.Context, body json.RawMessage) Reply {
	req, refusal := parseRestart(body, time.Now())
	if refusal != nil {
		return *refusal
	}
	if !req.Schedule.IsZero() && s.node.State().Pause {
		return RestartWhilePaused()
	}
	return s.node.Restart(ctx, req)
}

func (s *Server) reinitialize(ctx context.Context, body json.RawMessage) Reply {
	return s.node.Reinitialize(ctx, parseReinitialize(body))
}
