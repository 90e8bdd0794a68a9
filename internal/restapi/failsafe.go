package restapi

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// failsafeTimeout bounds one answer to a primary in failsafe mode. A Patroni gives up after two
// seconds, and an answer after that would be a promise that nobody counts on.
const failsafeTimeout = 1500 * time.Millisecond

// failsafe answers POST /failsafe (row R-110). It has its own path because the answer carries a
// header, and because it takes no place among the operations: a restart that lasts must not make
// this member refuse its primary.
func (s *Server) failsafe(w http.ResponseWriter, r *http.Request, set *settings) {
	received := s.node.Now()
	body, failure := readObject(w, r, requiredObject, set.maxBody)
	if failure != nil {
		s.writeReply(w, *failure)
		return
	}
	req, failure := parseFailsafe(body, received)
	if failure != nil {
		s.writeReply(w, *failure)
		return
	}
	ctx, cancel := context.WithTimeout(s.base, failsafeTimeout)
	defer cancel()
	reply := s.node.Failsafe(ctx, req)
	switch reply.Outcome {
	case FailsafeAccepted:
		if reply.LSN > 0 {
			w.Header().Set("lsn", strconv.FormatUint(uint64(reply.LSN), 10))
		}
		s.writeText(w, http.StatusOK, "Accepted")
	case FailsafeIAmLeader:
		s.writeText(w, http.StatusInternalServerError, "Running as a leader")
	case FailsafeOff:
		s.writePage(w, http.StatusBadGateway, "failsafe mode is off")
	default:
		reason := reply.Reason
		if reason == "" {
			reason = "refused"
		}
		s.writeText(w, http.StatusServiceUnavailable, reason)
	}
}
