// A ministry's system calls the call log: it reads, logs a call, checks the receipt, and follows the ledger.
//
//	first_calls log ADDRESS CASE COUNTERPART
//	first_calls follow ADDRESS [POSITION]
//
// ADDRESS is host:port. MINISTRIES_FOLDER is a folder such as `ministry pki init` makes, and MINISTRIES_AS the participant that calls.
// protos/README.md explains each step; the README beside this folder says what to install and how the contracts are compiled.
package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"math/big"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	calllog "contracts/ministries/calllog/v1"
	ledger "contracts/ministries/ledger/v1"
	types "contracts/ministries/type/v1"
)

const (
	service     = "calllog"
	calls       = "/ministries.calllog.v1.CallLogService/"
	entries     = "/ministries.ledger.v1.LedgerService/"
	contentType = "application/grpc+proto" // It is signed, so connect says what the library sends.
	largest     = 8 << 20
)

// errNotProved: the service's answer does not prove what it says. Keep it, and ask the other participants what they see.
var errNotProved = errors.New("not proved")

func notProved(format string, values ...interface{}) error {
	return fmt.Errorf("%w: %s", errNotProved, fmt.Sprintf(format, values...))
}

func digest(parts ...[]byte) []byte {
	hash := sha256.Sum256(bytes.Join(parts, nil))
	return hash[:]
}

// --- The agreement: whom to trust ---------------------------------------------------------------------------------------------

type agreement struct {
	TrustDomain  string
	Participants []participant
}

type participant struct {
	ID                    string
	AuthorityCertificates []string
	Systems               []string
	DeniedCertificates    []string
	SigningKeys           []signingKey
}

type signingKey struct {
	ID                                        string
	Use                                       string
	PublicKey                                 []byte
	ValidFromTime, ValidUntilTime, RevokeTime *time.Time
}

func (a agreement) participant(id string) (participant, error) {
	for _, p := range a.Participants {
		if p.ID == id {
			return p, nil
		}
	}
	return participant{}, fmt.Errorf("the agreement has no participant %s", id)
}

// isInForce says whether a key may sign now.
func (k signingKey) isInForce() bool {
	now := time.Now()
	ended := func(end *time.Time) bool { return end != nil && !now.Before(*end) }
	return (k.ValidFromTime == nil || !now.Before(*k.ValidFromTime)) && !ended(k.ValidUntilTime) && !ended(k.RevokeTime)
}

// --- The channel: TLS 1.3 with both certificates -----------------------------------------------------------------------------

// checkName says what is wrong with the name that a service's certificate gives, the first of its chain. That the chain leads to the
// service's authority, and that it is for this host, is known already.
func checkName(chain []*x509.Certificate, of participant, trustDomain string) error {
	certificate, domain := chain[0], "spiffe://"+trustDomain+"/"
	if len(certificate.URIs) != 1 {
		return notProved("the certificate names %d URIs and not one", len(certificate.URIs))
	}
	uri := certificate.URIs[0].String()
	system := strings.TrimPrefix(uri, domain+of.ID+"/")
	if system == uri || system == "" || strings.Contains(system, "/") {
		return notProved("the certificate names %s, and no system of %s", uri, of.ID)
	}
	listed := len(of.Systems) == 0
	for _, known := range of.Systems {
		listed = listed || domain+known == uri
	}
	if !listed {
		return notProved("the agreement does not list the system %s", uri)
	}
	for _, denied := range of.DeniedCertificates {
		serial, ok := new(big.Int).SetString(strings.ReplaceAll(denied, ":", ""), 16)
		for _, link := range chain {
			if !ok || serial.Cmp(link.SerialNumber) == 0 {
				return notProved("the agreement denies the certificate")
			}
		}
	}
	return nil
}

// ministry is a participant's way to one service.
type ministry struct {
	agreement          agreement
	participant, keyID string
	service            participant
	authority          string
	key                ed25519.PrivateKey
	channel            *grpc.ClientConn
}

func connect(folder, who, address string) (*ministry, error) {
	m := &ministry{participant: who, authority: address}
	text, err := os.ReadFile(folder + "/agreement.json")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &m.agreement); err != nil {
		return nil, err
	}
	if m.service, err = m.agreement.participant("service/" + service); err != nil {
		return nil, err
	}
	if err := m.readKey(folder + "/" + who + "/requests.key"); err != nil {
		return nil, err
	}
	own, err := tls.LoadX509KeyPair(folder+"/"+who+"/system.pem", folder+"/"+who+"/system.key")
	if err != nil {
		return nil, err
	}
	// The service's own authorities alone, and not those of the machine. An authority speaks for one participant only.
	roots := x509.NewCertPool()
	for _, root := range m.service.AuthorityCertificates {
		roots.AppendCertsFromPEM([]byte(root))
	}
	config := &tls.Config{
		RootCAs:      roots,
		Certificates: []tls.Certificate{own},
		MinVersion:   tls.VersionTLS13,
		// Called after the usual checks of chain and host.
		VerifyConnection: func(state tls.ConnectionState) error {
			return checkName(state.VerifiedChains[0], m.service, m.agreement.TrustDomain)
		},
	}
	m.channel, err = grpc.Dial(address, grpc.WithTransportCredentials(credentials.NewTLS(config)),
		// Pings notice a connection that is gone. Without them a stream on which nothing comes would wait for ever.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodec(asBytes{}),
			grpc.CallContentSubtype("proto"), // Versions of the library differ in what they send without it.
			grpc.MaxCallRecvMsgSize(largest),
		))
	return m, err
}

// readKey reads the participant's key for requests (PKCS #8, PEM), and finds its id in the agreement.
func (m *ministry) readKey(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s is not PEM", path)
	}
	read, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	key, ok := read.(ed25519.PrivateKey)
	if !ok {
		return fmt.Errorf("%s is no Ed25519 key", path)
	}
	m.key = key
	own, err := m.agreement.participant(m.participant)
	if err != nil {
		return err
	}
	for _, listed := range own.SigningKeys {
		if listed.Use == "SIGNING_KEY_USE_REQUESTS" && bytes.Equal(listed.PublicKey, key.Public().(ed25519.PublicKey)) {
			m.keyID = listed.ID
			return nil
		}
	}
	return fmt.Errorf("the agreement does not list the key %s", path)
}

// asBytes sends requests that are serialized already, as they are.
type asBytes struct{}

func (asBytes) Name() string                                { return "proto" }
func (asBytes) Marshal(request interface{}) ([]byte, error) { return request.([]byte), nil }
func (asBytes) Unmarshal(data []byte, response interface{}) error {
	return proto.Unmarshal(data, response.(proto.Message))
}

// --- Reading --------------------------------------------------------------------------------------------------------------------

// call calls a method until it is answered. It is safe to call again if it is not known whether a call arrived: a read changes nothing, and
// the same id with the same bytes is the same write. A signature ends, so each attempt has headers of its own: names and values, in turn.
func (m *ministry) call(method string, request []byte, response proto.Message, headers func() []string) error {
	for attempt := 0; ; attempt++ {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := m.channel.Invoke(metadata.AppendToOutgoingContext(ctx, headers()...), method, request, response)
		cancel()
		if code := status.Code(err); attempt == 4 || code != codes.Unavailable && code != codes.DeadlineExceeded {
			return err
		}
		time.Sleep(200 * time.Millisecond << attempt)
	}
}

func (m *ministry) read(method string, request, response proto.Message) error {
	message, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	return m.call(method, message, response, func() []string { return nil })
}

// --- Writing --------------------------------------------------------------------------------------------------------------------

// sign makes the three header fields that sign a write (RFC 9421).
func (m *ministry) sign(method string, request []byte, requestID string, created int64) []string {
	// The body of a gRPC call is one frame: not compressed, its length, the message.
	prefix := make([]byte, 5)
	binary.BigEndian.PutUint32(prefix[1:], uint32(len(request)))
	contentDigest := "sha-256=:" + base64.StdEncoding.EncodeToString(digest(prefix, request)) + ":"
	parameters := `("@method" "@path" "@authority" "content-type" "content-digest")` +
		fmt.Sprintf(`;created=%d;expires=%d;keyid="%s";nonce="%s"`, created, created+120, m.keyID, requestID) +
		fmt.Sprintf(`;tag="ministries/%s/%s"`, m.agreement.TrustDomain, service)
	base := `"@method": POST` + "\n" +
		`"@path": ` + method + "\n" +
		`"@authority": ` + m.authority + "\n" +
		`"content-type": ` + contentType + "\n" +
		`"content-digest": ` + contentDigest + "\n" +
		`"@signature-params": ` + parameters
	signature := base64.StdEncoding.EncodeToString(ed25519.Sign(m.key, []byte(base)))
	return []string{"content-digest", contentDigest, "signature-input", "sig1=" + parameters, "signature", "sig1=:" + signature + ":"}
}

// answer is the answer to a write.
type answer interface {
	proto.Message
	GetReceipt() *ledger.Receipt
}

// write sends a write, and checks the receipt.
func (m *ministry) write(method string, request []byte, requestID string, response answer) error {
	headers := func() []string { return m.sign(method, request, requestID, time.Now().Unix()) }
	if err := m.call(method, request, response, headers); err != nil {
		return err
	}
	if err := m.checkReceipt(response.GetReceipt()); err != nil {
		return err
	}
	return m.checkEntry(response, method, request, requestID)
}

// --- Proofs ---------------------------------------------------------------------------------------------------------------------

// checkReceipt checks that the service has signed a log that holds an entry with this hash at this position.
func (m *ministry) checkReceipt(receipt *ledger.Receipt) error {
	if receipt.GetService() != service {
		return notProved("the receipt is of '%s'", receipt.GetService())
	}
	// What the checkpoint must say. So nothing of it needs to be parsed.
	origin := m.agreement.TrustDomain + "/" + service
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, receipt.TreeSize, base64.StdEncoding.EncodeToString(receipt.RootHash))
	if !strings.HasPrefix(receipt.Checkpoint, text+"\n") {
		return notProved("the checkpoint is of another log or tree than the receipt")
	}
	if err := m.checkSignatures(origin, text, receipt.Checkpoint[len(text)+1:]); err != nil {
		return err
	}
	leaf := digest([]byte{0}, receipt.EntryHash)
	if root := rootOf(leaf, receipt.Position, receipt.TreeSize, receipt.InclusionProof); root == nil || !bytes.Equal(root, receipt.RootHash) {
		return notProved("the proof does not lead from the entry to the root")
	}
	return nil
}

// checkSignatures checks that the service has signed the text of a checkpoint.
func (m *ministry) checkSignatures(origin, text, signatures string) error {
	signed := false
	for _, key := range m.service.SigningKeys {
		if key.Use != "SIGNING_KEY_USE_CHECKPOINTS" || len(key.PublicKey) != ed25519.PublicKeySize || !key.isInForce() {
			continue
		}
		keyID := digest([]byte(origin+"\n\x01"), key.PublicKey)[:4]
		for _, line := range strings.Split(signatures, "\n") {
			mark := "\u2014 " + origin + " "
			signature, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, mark))
			if err != nil || !strings.HasPrefix(line, mark) || len(signature) < 4 || !bytes.Equal(signature[:4], keyID) {
				continue // A witness's, or one by a key that is not listed: ignored.
			}
			if !ed25519.Verify(key.PublicKey, []byte(text), signature[4:]) {
				return notProved("the checkpoint's signature is wrong")
			}
			signed = true
		}
	}
	if !signed {
		return notProved("no key that the agreement lists for the service has signed the checkpoint")
	}
	return nil
}

// checkEntry checks that the entry of the receipt is this very request, and holds this very answer. The receipt shows it, once it is
// checked.
func (m *ministry) checkEntry(response answer, method string, request []byte, requestID string) error {
	receipt, header := response.GetReceipt(), &ledger.EntryHeader{}
	if !bytes.Equal(digest(receipt.Header), receipt.EntryHash) || proto.Unmarshal(receipt.Header, header) != nil {
		return notProved("the entry at the receipt's position is not this request")
	}
	digests := map[ledger.PartKind][]byte{}
	for _, part := range header.Parts {
		digests[part.Kind] = part.Digest
	}
	holds := func(kind ledger.PartKind, salt, data []byte) bool {
		return len(salt) == 32 && bytes.Equal(digests[kind], digest(salt, data))
	}
	if header.Position != receipt.Position || !proto.Equal(header.CommitTime, receipt.CommitTime) ||
		header.Participant != m.participant || "/"+header.Method != method || header.RequestId != requestID ||
		len(digests) != len(header.Parts) || // A part that is there twice is two answers to one question.
		!holds(ledger.PartKind_PART_KIND_REQUEST, receipt.RequestSalt, request) {
		return notProved("the entry at the receipt's position is not this request")
	}

	// They are compared as messages, because another version of the service may write the same answer in other bytes.
	shown, received := &ledger.Answer{}, proto.Clone(response).ProtoReflect()
	recorded := received.New().Interface()
	received.Clear(received.Descriptor().Fields().ByName("receipt"))
	if !holds(ledger.PartKind_PART_KIND_ANSWER, receipt.AnswerSalt, receipt.Answer) || proto.Unmarshal(receipt.Answer, shown) != nil ||
		shown.GetResponse().UnmarshalTo(recorded) != nil || !proto.Equal(recorded, received.Interface()) {
		return notProved("the entry at the receipt's position holds another answer")
	}
	return nil
}

// rootOf is the root to which an inclusion proof leads (RFC 9162, 2.1.3.2); nil if it is none for that position and size.
func rootOf(leaf []byte, position, size uint64, proof [][]byte) []byte {
	if position >= size {
		return nil
	}
	index, last, node := position, size-1, leaf
	for _, sibling := range proof {
		if last == 0 || len(sibling) != sha256.Size {
			return nil
		}
		if index&1 == 1 || index == last {
			node = digest([]byte{1}, sibling, node)
			for index != 0 && index&1 == 0 {
				index, last = index>>1, last>>1
			}
		} else {
			node = digest([]byte{1}, node, sibling)
		}
		index, last = index>>1, last>>1
	}
	if last != 0 {
		return nil
	}
	return node
}

// --- Following ------------------------------------------------------------------------------------------------------------------

// follow gives each entry from a position on to take, once and in order, with the position from which to go on. Keep that position when you
// have done what the entry asks of you, and begin there after a restart.
func (m *ministry) follow(position uint64, take func(entry *ledger.Entry, next uint64) error) error {
	for failures := 0; ; {
		err := m.followOnce(&position, &failures, take)
		// The service was restarted, the connection broke, or this program read too slowly.
		failures++
		if code := status.Code(err); failures == 10 || code != codes.Unavailable && code != codes.ResourceExhausted {
			return err
		}
		pause := 100 * time.Millisecond << failures
		if pause > 5*time.Second {
			pause = 5 * time.Second
		}
		time.Sleep(pause)
	}
}

func (m *ministry) followOnce(position *uint64, failures *int, take func(*ledger.Entry, uint64) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	request, err := proto.Marshal(&ledger.FollowEntriesRequest{FromPosition: *position})
	if err != nil {
		return err
	}
	stream, err := m.channel.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, entries+"FollowEntries")
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	var pieces []byte
	for {
		response := &ledger.FollowEntriesResponse{}
		if err := stream.RecvMsg(response); err != nil {
			return err
		}
		*failures = 0
		entry := response.Entry
		if piece := response.Piece; piece != nil { // Of an entry of more than 64 KiB.
			if piece.Offset == 0 {
				pieces = nil
			}
			if int(piece.Offset) != len(pieces) || piece.Size > largest {
				return notProved("the pieces of an entry do not fit together")
			}
			if pieces = append(pieces, piece.Data...); len(pieces) < int(piece.Size) {
				continue
			}
			entry = &ledger.Entry{}
			if err := proto.Unmarshal(pieces, entry); err != nil {
				return err
			}
		}
		*position = response.NextPosition
		if entry == nil { // It only says how far the log is.
			continue
		}
		if err := take(entry, *position); err != nil {
			return err
		}
	}
}

// --- Refusals -------------------------------------------------------------------------------------------------------------------

// refusalOf reads what a refusal says, from the details of its status; nil: it is another error.
func refusalOf(err error) (*errdetails.ErrorInfo, []*errdetails.BadRequest_FieldViolation) {
	var refusal *errdetails.ErrorInfo
	var fields []*errdetails.BadRequest_FieldViolation
	for _, detail := range status.Convert(err).Details() {
		switch known := detail.(type) {
		case *errdetails.ErrorInfo:
			if known.Domain == "ministries" {
				refusal = known
			}
		case *errdetails.BadRequest:
			fields = known.FieldViolations
		}
	}
	return refusal, fields
}

// --- What this program does -------------------------------------------------------------------------------------------------------

// aCall is what our side says of a call that has just taken place. It names no prisoner; what is about a person would be sealed. It is
// serialized once: these bytes are signed, sent, kept for another attempt, and compared with the receipt.
func aCall(requestID, file, participant, counterpart string) ([]byte, error) {
	return proto.Marshal(&calllog.LogCallRequest{
		RequestId: requestID,
		Actor: &types.Actor{
			Office:    "consular-department",
			Official:  strings.ReplaceAll(participant, "/", "-") + "-official-1", // One of the codes that the agreement lists.
			Authority: "order-12",
		},
		Case:        file,
		Counterpart: counterpart,
		Account: &calllog.Account{
			StartTime: &types.ZonedTime{Time: timestamppb.New(time.Now().Add(-time.Hour)), TimeZone: "Asia/Seoul"},
			Channel:   calllog.Channel_CHANNEL_TELEPHONE,
			Attendees: []*calllog.Attendee{{Participant: participant, Office: "minister"}},
			Subjects:  []calllog.Subject{calllog.Subject_SUBJECT_CITIZENSHIP},
		},
	})
}

// newRequestID makes a UUID (version 4).
func newRequestID() string {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		panic(err)
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func (m *ministry) log(file, counterpart string) error {
	listed := &calllog.ListCallsResponse{}
	if err := m.read(calls+"ListCalls", &calllog.ListCallsRequest{Case: file}, listed); err != nil {
		return err
	}
	fmt.Printf("calls of the case so far: %d\n", len(listed.Calls))

	requestID := newRequestID()
	request, err := aCall(requestID, file, m.participant, counterpart)
	if err != nil {
		return err
	}
	response := &calllog.LogCallResponse{}
	if err := m.write(calls+"LogCall", request, requestID, response); err != nil {
		return err
	}
	fmt.Printf("request %s logged %s at position %d\n", requestID, response.Call, response.Receipt.Position)

	again := &calllog.LogCallResponse{}
	if err := m.write(calls+"LogCall", request, requestID, again); err != nil {
		return err
	}
	fmt.Printf("sent again: %s at position %d\n", again.Call, again.Receipt.Position)

	// A call with oneself is none. The refusal says why, and what to do.
	requestID = newRequestID()
	if request, err = aCall(requestID, file, m.participant, m.participant); err != nil {
		return err
	}
	err = m.write(calls+"LogCall", request, requestID, &calllog.LogCallResponse{})
	refusal, fields := refusalOf(err)
	if refusal == nil {
		return err
	}
	fmt.Printf("refused: %s\n", refusal.Reason)
	fmt.Printf("  article: %s\n", refusal.Metadata["source"])
	fmt.Printf("  missing: %s\n", refusal.Metadata["missing"])
	fmt.Printf("  remedy: %s\n", refusal.Metadata["unlock"])
	for _, field := range fields {
		fmt.Printf("  %s: %s\n", field.Field, field.Description)
	}
	return nil
}

func printEntry(entry *ledger.Entry, next uint64) error {
	header := &ledger.EntryHeader{}
	if err := proto.Unmarshal(entry.Header, header); err != nil {
		return err
	}
	fmt.Printf("%d %s %s next %d\n", header.Position, header.Participant, header.Method, next)
	return nil
}

func main() {
	log.SetFlags(0)
	verb, address, rest := os.Args[1], os.Args[2], os.Args[3:]
	ours, err := connect(os.Getenv("MINISTRIES_FOLDER"), os.Getenv("MINISTRIES_AS"), address)
	if err != nil {
		log.Fatal(err)
	}
	defer ours.channel.Close()
	if verb == "log" {
		err = ours.log(rest[0], rest[1])
	} else {
		position := uint64(0)
		if len(rest) > 0 {
			if position, err = strconv.ParseUint(rest[0], 10, 64); err != nil {
				log.Fatal(err)
			}
		}
		err = ours.follow(position, printEntry)
	}
	if err != nil {
		log.Fatal(err)
	}
}
