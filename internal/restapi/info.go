package restapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// getPatroni is row R-034, asked by peers before they race for the leader key and by pghactl. It
// looks at the server anew when the last look is older than a moment, because positions that are
// a heartbeat old would make the wrong standby look ahead.
func (s *Server) getPatroni(w http.ResponseWriter, r *http.Request) {
	st := s.node.State()
	if s.node.Now()-st.Server.ObservedAt > freshEnough {
		ctx, cancel := context.WithTimeout(r.Context(), freshTimeout)
		defer cancel()
		if fresh := s.node.Fresh(ctx); fresh != nil {
			st = fresh
		}
	}
	m := observeAs(s.node, st)
	b := m.status()
	b.Pgha = m.pgha()
	s.write(w, http.StatusOK, typeJSON, encodeStatus(b))
}

// freshEnough is the age up to which an observation needs no new look. It bounds the SQL that a
// crowd of pollers can cause.
const freshEnough = 50 * time.Millisecond

// getCluster is row R-035.
func (s *Server) getCluster(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), queryTimeout)
	defer cancel()
	view, err := s.node.Cluster(ctx)
	if err != nil {
		s.writePage(w, http.StatusServiceUnavailable, "cluster view: "+err.Error())
		return
	}
	body, err := json.Marshal(DescribeCluster(view))
	if err != nil {
		s.writePage(w, http.StatusInternalServerError, "cluster view: "+err.Error())
		return
	}
	s.write(w, http.StatusOK, typeJSON, body)
}

// getHistory is row R-036.
func (s *Server) getHistory(w http.ResponseWriter) {
	m := observe(s.node)
	body := []byte(m.View.History)
	if !m.view || !isArray(body) {
		body = []byte("[]")
	}
	s.write(w, http.StatusOK, typeJSON, body)
}

// getStored serves one JSON object of the store as it is (rows ).
func (s *Server) getStored(w http.ResponseWriter, what string, field func(ViewState) json.RawMessage) {
	m := observe(s.node)
	doc := field(m.View)
	if !m.view || !isObject(doc) {
		s.writePage(w, http.StatusBadGateway, "there is no usable "+what+" in the consensus store")
		return
	}
	s.write(w, http.StatusOK, typeJSON, doc)
}

func isObject(doc []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(doc, " \t\r\n"), []byte("{")) && json.Valid(doc)
}

func isArray(doc []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(doc, " \t\r\n"), []byte("[")) && json.Valid(doc)
}
