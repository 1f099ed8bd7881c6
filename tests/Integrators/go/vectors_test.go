package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	calllog "contracts/ministries/calllog/v1"
	ledger "contracts/ministries/ledger/v1"
)

// vectors is what protos/vectors.json holds, as far as this test needs it.
type vectors struct {
	Keys []struct {
		ID   string
		Seed []byte
	}
	Agreement  agreement
	Signatures []struct {
		RequestID    string `json:"request_id"`
		RequestBytes []byte `json:"request_bytes"`
		Created      int64
		Headers      map[string]string
	}
	Receipt struct{ Receipt, Response json.RawMessage }
}

// read reads the vectors, and makes the example without its channel.
func read(t *testing.T) (vectors, *ministry) {
	text, err := os.ReadFile("../../../protos/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	of, err := v.Agreement.participant("service/calllog")
	if err != nil {
		t.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(v.Keys[0].Seed)
	return v, &ministry{agreement: v.Agreement, participant: "kr/mfa", service: of, key: key, keyID: v.Keys[0].ID}
}

func TestItSignsAsTheVectorSays(t *testing.T) {
	v, m := read(t)
	vector := v.Signatures[1] // This library sends application/grpc+proto.
	m.authority = vector.Headers[":authority"]
	signed := m.sign(vector.Headers[":path"], vector.RequestBytes, vector.RequestID, vector.Created)
	for i := 0; i < len(signed); i += 2 {
		if signed[i+1] != vector.Headers[signed[i]] {
			t.Errorf("%s: %s", signed[i], signed[i+1])
		}
	}
}

func TestItAcceptsTheReceiptAndNoOtherPosition(t *testing.T) {
	v, m := read(t)
	receipt := &ledger.Receipt{}
	if err := protojson.Unmarshal(v.Receipt.Receipt, receipt); err != nil {
		t.Fatal(err)
	}
	if err := m.checkReceipt(receipt); err != nil {
		t.Error(err)
	}
	receipt.Position--
	if err := m.checkReceipt(receipt); !errors.Is(err, errNotProved) {
		t.Error(err)
	}
}

func TestItAcceptsTheEntryOfThisRequestAndThisAnswerAndNoOther(t *testing.T) {
	v, m := read(t)
	vector, receipt, response := v.Signatures[0], &ledger.Receipt{}, &calllog.LogCallResponse{}
	if err := protojson.Unmarshal(v.Receipt.Receipt, receipt); err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(v.Receipt.Response, response); err != nil {
		t.Fatal(err)
	}
	response.Receipt = receipt
	method := vector.Headers[":path"]
	if err := m.checkEntry(response, method, vector.RequestBytes, vector.RequestID); err != nil {
		t.Error(err)
	}
	if err := m.checkEntry(response, method, append(vector.RequestBytes, 0), vector.RequestID); !errors.Is(err, errNotProved) {
		t.Error(err)
	}
	response.Etag = "another"
	if err := m.checkEntry(response, method, vector.RequestBytes, vector.RequestID); !errors.Is(err, errNotProved) {
		t.Error(err)
	}
}
