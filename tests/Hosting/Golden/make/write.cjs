// The request of request.textproto as a JavaScript system may write it, default values and all.
const { dirname, join } = require("node:path");
const { readFileSync } = require("node:fs");
const { Root } = require("protobufjs");

const protos = process.argv[2];
const root = new Root();
const own = dirname(require.resolve("protobufjs/package.json"));
root.resolvePath = (_, target) => join(target.startsWith("google/protobuf/") ? own : protos, target);
root.loadSync("ministries/calllog/v1/calllog_service.proto", { keepCase: true });
const type = root.lookupType("ministries.calllog.v1.LogCallRequest");

const request = type.fromObject({
  request_id: "00000000-0000-4000-8000-00000000901d",
  actor: { office: "minister", official: "kr-mfa-official-1", authority: "order-7" },
  approvals: [],
  case: "case_00000000000000000000000001",
  precedence: "PRECEDENCE_IMMEDIATE",
  classification: { national_marking: "", level: "LEVEL_RESTRICTED", releasable_to: ["kr/mfa", "ua/mfa"] },
  counterpart: "ua/mfa",
  account: {
    start_time: { time: { seconds: 1742202000, nanos: 500000000 }, time_zone: "Asia/Seoul" },
    channel: "CHANNEL_TELEPHONE",
    attendees: [
      { participant: "kr/mfa", office: "minister", official: "" },
      { participant: "ua/mfa", office: "minister", official: "ua-mfa-official-1" },
    ],
    subjects: ["SUBJECT_CITIZENSHIP", "SUBJECT_TRANSFER"],
    prisoners: [],
    positions: [{ participant: "kr/mfa", subject: "SUBJECT_CITIZENSHIP", stance: "STANCE_ASSERTED", basis: "", prisoners: [] }],
    commitments: [{
      participant: "kr/mfa", kind: "COMMITMENT_KIND_REQUEST_TRANSFER", route: 0, destination: "",
      due_time: { seconds: 1743465600, nanos: 0 },
    }],
    minutes: { scheme: "ministries-sealed-v1", recipients: ["kr/mfa"], content: readFileSync(join(__dirname, "content.bin")) },
  },
});
process.stdout.write(type.encode(request).finish());
