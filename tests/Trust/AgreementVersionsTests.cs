using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Fixtures;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Trust.Tests;

/// <summary>Who must sign which change of the agreement, and every way in which a version is refused.</summary>
public sealed class AgreementVersionsTests : IDisposable
{
    private static readonly DateTimeOffset Now = new(2025, 3, 17, 9, 0, 0, TimeSpan.Zero);
    private static readonly string[] All = ["icrc", "kr/mfa", "kr/unification", "ua/coordination-hq", "ua/mfa"];

    private readonly Dictionary<string, Key> _keys = [];
    private readonly Agreement _first = StandardAgreement.Read();

    public AgreementVersionsTests()
    {
        foreach (var participant in _first.Participants.Where(AgreementVersions.Signs))
            participant.SigningKeys.Add(New($"{participant.Id}/agreements-1"));
        foreach (var service in _first.Participants.Where(p => p.Kind == ParticipantKind.Service))
            service.SigningKeys.Add(New($"{service.Id}/checkpoint-1", SigningKeyUse.Checkpoints));
        Sign(_first, All);
    }

    public void Dispose()
    {
        foreach (var key in _keys.Values)
            key.Dispose();
    }

    private SigningKey New(string id, SigningKeyUse use = SigningKeyUse.Agreements)
    {
        var key = _keys[id] = Key.Create(SignatureAlgorithm.Ed25519);
        return new SigningKey
        {
            Id = id,
            Use = use,
            PublicKey = ByteString.CopyFrom(key.PublicKey.Export(KeyBlobFormat.RawPublicKey)),
        };
    }

    private void Sign(Agreement agreement, params IEnumerable<string> signers)
    {
        foreach (var signer in signers)
            AgreementVersions.Sign(agreement, signer, $"{signer}/agreements-1", _keys[$"{signer}/agreements-1"]);
    }

    private Agreement Next(Action<Agreement> change, params IEnumerable<string> signers)
    {
        var next = _first.Clone();
        change(next);
        AgreementVersions.Follow(_first, next);
        Sign(next, signers);
        return next;
    }

    private static Participant Of(Agreement agreement, string id) => agreement.Participants.Single(p => p.Id == id);

    private AgreementFault? Check(Agreement next, DateTimeOffset? at = null) => AgreementVersions.Check(_first, next, at ?? Now);

    private static readonly Dictionary<string, (string[] Signers, Action<AgreementVersionsTests, Agreement> Change)> Rows = new()
    {
        ["a key is added"] = (["kr/mfa"], (t, a) => Of(a, "kr/mfa").SigningKeys.Add(t.New("kr/mfa/requests-2", SigningKeyUse.Requests))),
        ["a key is revoked"] = (["icrc"], (_, a) => Of(a, "icrc").SigningKeys[0].RevokeTime = Now.AddYears(1).ToTimestamp()),
        ["a key is no longer listed"] = (
            ["ua/mfa"],
            (t, a) =>
            {
                Of(a, "ua/mfa").SigningKeys.Add(t.New("ua/mfa/agreements-2"));
                Of(a, "ua/mfa").SigningKeys.RemoveAt(0);
            }
        ),
        ["a key for sealing is added"] = (["kr/mfa"], (_, a) => Of(a, "kr/mfa").SealingKeys.Add(SealedForm.Listed("kr/mfa/sealing-1"))),
        ["keys for sealing of two are added"] = (
            ["icrc", "kr/mfa"],
            (_, a) =>
            {
                Of(a, "kr/mfa").SealingKeys.Add(SealedForm.Listed("kr/mfa/sealing-1"));
                Of(a, "icrc").SealingKeys.Add(SealedForm.Listed("icrc/sealing-1"));
            }
        ),
        ["an authority is added"] = (["kr/mfa"], (_, a) => Of(a, "kr/mfa").AuthorityCertificates.Add("-----BEGIN CERTIFICATE-----")),
        ["a certificate is denied"] = (["kr/mfa"], (_, a) => Of(a, "kr/mfa").DeniedCertificates.Add("0A")),
        ["the systems are named"] = (["kr/mfa"], (_, a) => Of(a, "kr/mfa").Systems.Add("kr/mfa/desk")),
        ["a capacity is given up"] = (["kr/mfa"], (_, a) => Of(a, "kr/mfa").Capacities.Remove(Capacity.Custody)),
        ["a clearance is given up"] = (["kr/mfa"], (_, a) => Of(a, "kr/mfa").Clearance = Level.Restricted),
        ["two change their own"] = (
            ["kr/mfa", "ua/mfa"],
            (_, a) =>
            {
                Of(a, "kr/mfa").DeniedCertificates.Add("0A");
                Of(a, "ua/mfa").DeniedCertificates.Add("0B");
            }
        ),
        ["a capacity is gained"] = (All, (_, a) => Of(a, "ua/mfa").Capacities.Add(Capacity.Custody)),
        ["one capacity is exchanged for another"] = (All, (_, a) => Of(a, "ua/mfa").Capacities[0] = Capacity.Custody),
        ["a clearance is gained"] = (All, (_, a) => Of(a, "kr/unification").Clearance = Level.Secret),
        ["a participant gets another name"] = (All, (_, a) => Of(a, "kr/mfa").Name = "ICRC"),
        ["a participant acts for another state"] = (All, (_, a) => Of(a, "kr/mfa").State = "UA"),
        ["a participant becomes an observer"] = (All, (_, a) => Of(a, "kr/mfa").Kind = ParticipantKind.NeutralObserver),
        ["a participant becomes a service and leaves those who sign"] = (All, (_, a) => Of(a, "kr/mfa").Kind = ParticipantKind.Service),
        ["a participant leaves"] = (All, (_, a) => a.Participants.Remove(Of(a, "kr/unification"))),
        ["a service's key changes"] = (All, (t, a) => Of(a, "service/custody").SigningKeys[0] = t.New("x", SigningKeyUse.Checkpoints)),
        ["a service's key is added"] = (All, (t, a) => Of(a, "service/custody").SigningKeys.Add(t.New("x", SigningKeyUse.Checkpoints))),
        ["the operator's certificate is denied"] = (All, (_, a) => Of(a, "operator").DeniedCertificates.Add("0A")),
        ["a grant is added"] = (All, (_, a) => a.Grants[0].Methods.Add("x/Y")),
        ["a grant is taken away"] = (All, (_, a) => a.Grants[0].Methods.RemoveAt(0)),
        ["a demand is added"] = (All, (_, a) => a.ApprovalDemands.Add(new ApprovalDemand { Method = "x/Y", Officials = 2 })),
        ["a state is altered"] = (All, (_, a) => a.States[0].PartyToGc3 = false),
        ["a state becomes neutral"] = (All, (_, a) => a.States[0].Neutral = true),
        ["a state accedes to Additional Protocol I"] = (All, (_, a) => a.States[0].PartyToAp1 ^= true),
        ["a state accedes to the Refugee Convention"] = (All, (_, a) => a.States[0].PartyToRefugeeConvention ^= true),
        ["a state makes a reservation"] = (All, (_, a) => a.States[0].Reservations.Add(118)),
        ["a state withdraws a reservation"] = (All, (_, a) => a.States[0].Reservations.RemoveAt(0)),
        ["attesters are given twice"] = (All, (_, a) => a.AttestersDemanded.Add(a.AttestersDemanded[0])),
        ["a number is altered"] = (All, (_, a) => a.StatementValidityDays = 365),
        ["hostilities are over"] = (All, (_, a) => a.Hostilities = false),
        ["the trust domain is another"] = (All, (_, a) => a.TrustDomain = "other.example"),
        ["the participants stand in another order"] = (
            All,
            (_, a) =>
            {
                var last = a.Participants[^1];
                a.Participants.RemoveAt(a.Participants.Count - 1);
                a.Participants.Insert(0, last);
            }
        ),
        ["nothing changes"] = (All, (_, _) => { }),
    };

    public static TheoryData<string> Changes() => [.. Rows.Keys];

    [Theory]
    [MemberData(nameof(Changes))]
    public void A_change_is_signed_by_those_whom_it_affects_and_no_fewer(string what)
    {
        var (signers, change) = Rows[what];
        Assert.Null(Check(Next(a => change(this, a), signers)));
        // Whoever else signs changes nothing, and without one of them it is refused, and says who is missing.
        Assert.Null(Check(Next(a => change(this, a), All)));
        foreach (var missing in signers)
        {
            var fault = Check(Next(a => change(this, a), signers.Where(s => s != missing)))!;
            Assert.Equal((AgreementWrong.SignatureMissing, missing), (fault.Wrong, Assert.Single(fault.Suppliers)));
            Assert.Contains(missing, fault.ToString());
        }
    }

    [Fact]
    public void A_participant_that_joins_signs_too_with_its_own_key()
    {
        void Join(Agreement a) =>
            a.Participants.Add(
                new Participant
                {
                    Id = "ch/fdfa",
                    Kind = ParticipantKind.ProtectingPower,
                    SigningKeys = { New("ch/fdfa/agreements-1") },
                }
            );
        var without = Check(Next(Join, All))!;
        Assert.Equal((AgreementWrong.SignatureMissing, "ch/fdfa"), (without.Wrong, Assert.Single(without.Suppliers)));
        var next = Next(Join, All);
        Sign(next, "ch/fdfa");
        Assert.Null(Check(next));
        Assert.Equal(AgreementWrong.SignatureMissing, Check(Next(Join, ["ch/fdfa"]))!.Wrong);
    }

    [Fact]
    public void A_lost_key_for_agreements_is_replaced_by_all_others_together_and_nothing_else_with_it()
    {
        void Replace(Agreement a)
        {
            Of(a, "kr/mfa").SigningKeys[0].RevokeTime = Now.ToTimestamp();
            Of(a, "kr/mfa").SigningKeys.Add(New("kr/mfa/agreements-2"));
        }
        var others = All.Except(["kr/mfa"]).ToArray();
        Assert.Null(Check(Next(Replace, others)));
        Assert.Null(Check(Next(Replace, "kr/mfa")));
        foreach (var missing in others)
            Assert.Equal(AgreementWrong.SignatureMissing, Check(Next(Replace, others.Except([missing])))!.Wrong);
        Assert.Equal(
            AgreementWrong.SignatureMissing,
            Check(
                Next(
                    a =>
                    {
                        Replace(a);
                        Of(a, "kr/mfa").SigningKeys.Add(New("kr/mfa/requests-9", SigningKeyUse.Requests));
                    },
                    others
                )
            )!.Wrong
        );
    }

    [Fact]
    public void Of_two_neither_replaces_the_others_key()
    {
        foreach (var gone in All.Except(["kr/mfa", "ua/mfa"]))
            _first.Participants.Remove(Of(_first, gone));
        var next = Next(a => Of(a, "kr/mfa").SigningKeys[0] = New("kr/mfa/agreements-2"), "ua/mfa");
        Assert.Equal("kr/mfa", Assert.Single(Check(next)!.Suppliers));
    }

    [Fact]
    public void The_first_version_is_signed_by_every_ministry_and_observer_in_it()
    {
        Assert.Null(AgreementVersions.Check(null, _first, Now));
        foreach (var missing in All)
        {
            var first = _first.Clone();
            first.Signatures.Remove(first.Signatures.Single(s => s.Participant == missing));
            var fault = AgreementVersions.Check(null, first, Now)!;
            Assert.Equal((AgreementWrong.SignatureMissing, missing), (fault.Wrong, Assert.Single(fault.Suppliers)));
        }
    }

    public static TheoryData<string, AgreementWrong> Wrong() =>
        new()
        {
            { "a version is left out", AgreementWrong.VersionNotNext },
            { "the version is the same", AgreementWrong.VersionNotNext },
            { "the predecessor is another", AgreementWrong.PreviousDigestWrong },
            { "no predecessor is named", AgreementWrong.PreviousDigestWrong },
            { "it holds from before", AgreementWrong.ValidFromEarlier },
            { "one is left without a key", AgreementWrong.KeyForAgreementsMissing },
            { "the key is nobody's", AgreementWrong.SignatureKeyUnknown },
            { "the key is another's", AgreementWrong.SignatureKeyUnknown },
            { "the key is a service's", AgreementWrong.SignatureKeyUnknown },
            { "the key is for something else", AgreementWrong.SignatureKeyUnknown },
            { "it was altered after signing", AgreementWrong.SignatureWrong },
            { "the signature is forged", AgreementWrong.SignatureWrong },
            { "the signature is cut", AgreementWrong.SignatureWrong },
            { "the key is in the new version only", AgreementWrong.SignatureKeyTooNew },
            { "the key was revoked before", AgreementWrong.SignatureKeyNotValid },
            { "the key had ended", AgreementWrong.SignatureKeyNotValid },
            { "nobody signed", AgreementWrong.SignatureMissing },
        };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void A_version_that_does_not_follow_is_refused_by_name(string what, AgreementWrong wrong)
    {
        void Change(Agreement a) => Of(a, "kr/mfa").DeniedCertificates.Add("0A");
        var next = Next(Change, "kr/mfa");
        void Again(Action<Agreement> alter)
        {
            alter(next);
            next.Signatures.Clear();
            Sign(next, All);
        }
        var at = Now;
        switch (what)
        {
            case "a version is left out":
                Again(a => a.Version = 3);
                break;
            case "the version is the same":
                Again(a => a.Version = 1);
                break;
            case "the predecessor is another":
                Again(a => a.PreviousDigest = ByteString.CopyFrom(new byte[32]));
                break;
            case "no predecessor is named":
                Again(a => a.PreviousDigest = ByteString.Empty);
                break;
            case "it holds from before":
                Again(a => a.ValidFromTime = new Timestamp { Seconds = a.ValidFromTime.Seconds - 1 });
                break;
            case "one is left without a key":
                next = Next(a => Of(a, "kr/mfa").SigningKeys[0].RevokeTime = Now.ToTimestamp(), All);
                break;
            case "the key is nobody's":
                next.Signatures[0].KeyId = "kr/mfa/agreements-9";
                break;
            case "the key is another's":
                next.Signatures[0].KeyId = "ua/mfa/agreements-1";
                break;
            case "the key is a service's":
                (next.Signatures[0].Participant, next.Signatures[0].KeyId) = ("service/custody", "service/custody/checkpoint-1");
                break;
            case "the key is for something else":
                _first.Participants.Single(p => p.Id == "kr/mfa").SigningKeys[0].Use = SigningKeyUse.Requests;
                next = Next(a => Of(a, "kr/mfa").SigningKeys.Add(New("kr/mfa/agreements-2")), "kr/mfa");
                break;
            case "it was altered after signing":
                Of(next, "kr/mfa").DeniedCertificates.Add("0B");
                break;
            case "the signature is forged":
                AgreementVersions.Sign(next, "kr/mfa", "kr/mfa/agreements-1", _keys["ua/mfa/agreements-1"]);
                break;
            case "the signature is cut":
                next.Signatures[0].Signature = ByteString.CopyFrom(next.Signatures[0].Signature.Span[..63]);
                break;
            case "the key is in the new version only":
                next = Next(a => Of(a, "kr/mfa").SigningKeys.Add(New("kr/mfa/agreements-2")));
                AgreementVersions.Sign(next, "kr/mfa", "kr/mfa/agreements-2", _keys["kr/mfa/agreements-2"]);
                break;
            case "the key was revoked before" or "the key had ended":
                var ended = _first.Participants.Single(p => p.Id == "kr/mfa").SigningKeys[0];
                if (what == "the key had ended")
                    ended.ValidUntilTime = Now.AddDays(1).ToTimestamp();
                else
                    ended.RevokeTime = Now.AddDays(1).ToTimestamp();
                next = Next(
                    a =>
                    {
                        Change(a);
                        Of(a, "kr/mfa").SigningKeys.Add(New("kr/mfa/agreements-2"));
                    },
                    "kr/mfa"
                );
                Assert.Null(Check(next));
                at = Now.AddDays(1);
                break;
            case "nobody signed":
                next.Signatures.Clear();
                break;
            default:
                Assert.Fail(what);
                break;
        }
        Assert.Equal(wrong, Check(next, at)?.Wrong);
    }

    /// <summary>Encodings of points of small order, in all forms, and of none.</summary>
    [Theory]
    [InlineData("0000000000000000000000000000000000000000000000000000000000000000")]
    [InlineData("0000000000000000000000000000000000000000000000000000000000000080")]
    [InlineData("0100000000000000000000000000000000000000000000000000000000000000")]
    [InlineData("0100000000000000000000000000000000000000000000000000000000000080")]
    [InlineData("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")]
    [InlineData("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff")]
    [InlineData("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")]
    [InlineData("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff")]
    [InlineData("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")]
    [InlineData("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85")]
    [InlineData("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")]
    [InlineData("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa")]
    [InlineData("ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")]
    [InlineData("00"), InlineData("")]
    public void An_agreement_that_lists_a_weak_key_is_refused_by_name_whatever_the_key_is_for(string hex)
    {
        foreach (var use in System.Enum.GetValues<SigningKeyUse>().Where(u => u != SigningKeyUse.Unspecified))
        {
            var key = New("kr/mfa/weak", use);
            key.PublicKey = ByteString.CopyFrom(Convert.FromHexString(hex));
            var next = Next(a => Of(a, "kr/mfa").SigningKeys.Add(key), All);
            var fault = Check(next)!;
            Assert.Equal(AgreementWrong.KeyWeak, fault.Wrong);
            Assert.Contains("kr/mfa/weak", fault.Missing);
            Assert.Equal(["kr/mfa"], fault.Suppliers);
            Assert.Equal(fault.ToString(), AgreementVersions.Malformed(next)!.ToString());
            // A ledger that holds it all the same proves nothing from there on.
            Broken(1, AgreementWrong.KeyWeak, Adopted(_first), Adopted(next));
        }
    }

    [Theory]
    [InlineData("a trust domain with a line feed"), InlineData("a trust domain in capitals"), InlineData("no trust domain")]
    [
        InlineData("a participant with a plus sign"),
        InlineData("a participant with a space that is none"),
        InlineData("a key with a quotation mark")
    ]
    [
        InlineData("a key beyond ASCII"),
        InlineData("a key without a name"),
        InlineData("a time finer than 100 ns"),
        InlineData("a time after 9998")
    ]
    [InlineData("a time before 1970"), InlineData("a use that is not known"), InlineData("a participant twice"), InlineData("a key twice")]
    [InlineData("a state twice"), InlineData("a demand twice")]
    [
        InlineData("a reservation on Article 0"),
        InlineData("a reservation on Article 144"),
        InlineData("a reservation twice"),
        InlineData("65 reservations"),
        InlineData("two bureaux of a state")
    ]
    [
        InlineData("a key for sealing with a space in its id"),
        InlineData("a key for sealing without an id"),
        InlineData("a key for sealing with an id of 65 characters"),
        InlineData("a key for sealing twice"),
        InlineData("a key for sealing under two ids"),
        InlineData("a key for sealing that ends before it begins"),
        InlineData("a key for sealing of a service"),
        InlineData("a key for sealing of the operator"),
        InlineData("65 keys for sealing"),
        InlineData("a key for sealing with a time before 1970")
    ]
    public void An_agreement_that_verifiers_could_read_in_two_ways_is_refused(string what)
    {
        var next = Next(a =>
        {
            var korea = Of(a, "kr/mfa");
            switch (what)
            {
                case "a trust domain with a line feed":
                    a.TrustDomain = "ministries\nexample";
                    break;
                case "a trust domain in capitals":
                    a.TrustDomain = "Ministries.example";
                    break;
                case "no trust domain":
                    a.TrustDomain = "";
                    break;
                case "a participant with a plus sign":
                    korea.Id = "kr+mfa";
                    break;
                case "a participant with a space that is none":
                    korea.Id = "kr/mfa\ufeff";
                    break;
                case "a key with a quotation mark":
                    korea.SigningKeys.Add(New("kr\"1", SigningKeyUse.Requests));
                    break;
                case "a key beyond ASCII":
                    korea.SigningKeys.Add(New("kr\u0085", SigningKeyUse.Requests));
                    break;
                case "a key without a name":
                    korea.SigningKeys.Add(New("", SigningKeyUse.Requests));
                    break;
                case "a time finer than 100 ns":
                    korea.SigningKeys[0].ValidFromTime = new Timestamp { Seconds = 1, Nanos = 1 };
                    break;
                case "a time after 9998":
                    korea.SigningKeys[0].ValidUntilTime = new Timestamp { Seconds = 253_370_764_800 };
                    break;
                case "a time before 1970":
                    korea.SigningKeys[0].ValidFromTime = new Timestamp { Seconds = -1 };
                    break;
                case "a use that is not known":
                    korea.SigningKeys.Add(New("kr/mfa/x", (SigningKeyUse)99));
                    break;
                case "a participant twice":
                    a.Participants.Add(korea.Clone());
                    break;
                case "a key twice":
                    korea.SigningKeys.Add(korea.SigningKeys[0].Clone());
                    break;
                case "a state twice":
                    a.States.Add(a.States[0].Clone());
                    break;
                case "a reservation on Article 0":
                    a.States[0].Reservations.Add(0);
                    break;
                case "a reservation on Article 144":
                    a.States[0].Reservations.Add(144);
                    break;
                case "a reservation twice":
                    a.States[0].Reservations.Add(a.States[0].Reservations[0]);
                    break;
                case "65 reservations":
                    a.States[^1].Reservations.Add(Enumerable.Range(1, 65).Select(i => (uint)i));
                    break;
                case "two bureaux of a state":
                    a.Bureaux.Add(a.Bureaux[0].Clone());
                    break;
                case "a key for sealing with a space in its id":
                    korea.SealingKeys.Add(SealedForm.Listed("kr mfa"));
                    break;
                case "a key for sealing without an id":
                    korea.SealingKeys.Add(SealedForm.Listed(""));
                    break;
                case "a key for sealing with an id of 65 characters":
                    korea.SealingKeys.Add(SealedForm.Listed(new string('k', 65)));
                    break;
                case "a key for sealing twice":
                    korea.SealingKeys.Add(SealedForm.Listed("k"));
                    Of(a, "icrc").SealingKeys.Add(new SealingKey(SealedForm.Listed("l")) { Id = "k" });
                    break;
                case "a key for sealing under two ids":
                    korea.SealingKeys.Add(SealedForm.Listed("k"));
                    Of(a, "icrc").SealingKeys.Add(new SealingKey(SealedForm.Listed("k")) { Id = "l" });
                    break;
                case "a key for sealing that ends before it begins":
                    korea.SealingKeys.Add(
                        new SealingKey(SealedForm.Listed("k")) { ValidFromTime = Now.ToTimestamp(), ValidUntilTime = Now.ToTimestamp() }
                    );
                    break;
                case "a key for sealing of a service":
                    Of(a, "service/custody").SealingKeys.Add(SealedForm.Listed("k"));
                    break;
                case "a key for sealing of the operator":
                    Of(a, "operator").SealingKeys.Add(SealedForm.Listed("k"));
                    break;
                case "65 keys for sealing":
                    korea.SealingKeys.Add(Enumerable.Range(0, 65).Select(i => SealedForm.Listed($"k{i}")));
                    break;
                case "a key for sealing with a time before 1970":
                    korea.SealingKeys.Add(new SealingKey(SealedForm.Listed("k")) { RevokeTime = new Timestamp { Seconds = -1 } });
                    break;
                case "a demand twice":
                    a.ApprovalDemands.Add([new ApprovalDemand { Method = "x" }, new ApprovalDemand { Method = "x" }]);
                    break;
                default:
                    Assert.Fail(what);
                    break;
            }
        });
        Assert.Equal(AgreementWrong.FormWrong, Check(next)?.Wrong);
    }

    /// <summary>What is sealed to such a key could be opened by nobody, or not by everybody alike.</summary>
    [Theory]
    [InlineData("nothing"), InlineData("a byte less"), InlineData("a byte more")]
    [InlineData("its first number is 3329"), InlineData("its last number is 4095")]
    public void A_key_for_sealing_that_is_none_is_refused_and_named(string what)
    {
        var key = SealedForm.Listed("kr/mfa/sealing-1");
        var bytes = key.PublicKey.ToByteArray();
        switch (what)
        {
            case "its first number is 3329":
                (bytes[0], bytes[1]) = (0x01, (byte)(bytes[1] & 0xf0 | 0x0d));
                break;
            case "its last number is 4095":
                (bytes[1150], bytes[1151]) = ((byte)(bytes[1150] | 0xf0), 0xff);
                break;
            default:
                bytes = what switch
                {
                    "a byte less" => bytes[1..],
                    "a byte more" => [.. bytes, 0],
                    _ => [],
                };
                break;
        }
        key.PublicKey = ByteString.CopyFrom(bytes);
        var fault = Check(Next(a => Of(a, "kr/mfa").SealingKeys.Add(key), All))!;
        Assert.Equal(AgreementWrong.KeyWeak, fault.Wrong);
        Assert.Contains("kr/mfa/sealing-1", fault.Missing);
        Assert.Equal(["kr/mfa"], fault.Suppliers);
    }

    [Fact]
    public void The_greatest_number_of_a_key_for_sealing_is_3328()
    {
        var bytes = new byte[SealingKeys.PublicKeyBytes];
        // 3328 is d00 in hexadecimal digits.
        for (var i = 0; i < 1152; i += 3)
            (bytes[i + 1], bytes[i + 2]) = (0x0d, 0xd0);
        Assert.True(SealingKeys.IsPublicKey(bytes));
        bytes[1149]++;
        Assert.False(SealingKeys.IsPublicKey(bytes));
    }

    [Fact]
    public void A_change_of_a_key_for_sealing_is_told_in_a_line_that_can_be_read()
    {
        var key = SealedForm.Listed("kr/mfa/sealing-1");
        var with = Next(a => Of(a, "kr/mfa").SealingKeys.Add(key), All);
        var revoked = with.Clone();
        Of(revoked, "kr/mfa").SealingKeys[0].RevokeTime = Now.ToTimestamp();
        var added = Assert.Single(AgreementVersions.Between(_first, with));
        Assert.Equal("kr/mfa", added.Of);
        Assert.StartsWith("kr/mfa: sealing keys: kr/mfa/sealing-1, ", added.What, StringComparison.Ordinal);
        Assert.InRange(added.What.Length, 1, 100);
        Assert.Contains(AgreementVersions.Between(with, revoked), c => c.What.Contains(", revoked ", StringComparison.Ordinal));
    }

    /// <summary>Whoever revokes it under one id would leave it in force under the other; and one who holds it would be two.</summary>
    [Theory]
    [InlineData("under two ids"), InlineData("for two uses"), InlineData("for two officials"), InlineData("of two participants")]
    public void A_public_key_that_is_listed_twice_is_refused(string how)
    {
        var key = New("kr/mfa/approvals-1", SigningKeyUse.Approvals);
        key.Official = "kr-official-1";
        var again = key.Clone();
        (again.Id, again.Use) = ("another", how == "for two uses" ? SigningKeyUse.Requests : SigningKeyUse.Approvals);
        if (how == "for two officials")
            again.Official = "kr-official-2";
        // Revoked where it is listed first.
        if (how == "under two ids")
            key.RevokeTime = Now.ToTimestamp();
        var next = Next(
            a =>
            {
                Of(a, "kr/mfa").SigningKeys.Add(key);
                Of(a, how == "of two participants" ? "ua/mfa" : "kr/mfa").SigningKeys.Add(again);
            },
            All
        );
        var fault = Check(next);
        Assert.Equal(AgreementWrong.FormWrong, fault?.Wrong);
        Assert.Contains("kr/mfa/approvals-1", fault!.Missing);
        Assert.Contains("another", fault.Missing);
        Broken(1, AgreementWrong.FormWrong, Adopted(_first), Adopted(next));
    }

    [Fact]
    public void What_changes_is_said_in_plain_words()
    {
        var next = Next(a =>
        {
            Of(a, "kr/mfa").SigningKeys.Add(New("kr/mfa/requests-2", SigningKeyUse.Requests));
            Of(a, "kr/mfa").DeniedCertificates.Add("0A");
            a.Grants[0].Methods.RemoveAt(0);
            a.Hostilities = false;
        });
        var words = AgreementVersions.Between(_first, next).Select(c => $"{c.Of ?? "all"}: {c.What}").ToArray();
        Assert.Contains("all: grants: no longer DetainingPower may call ministries.ledger.v1.LedgerService/GetEntry", words);
        Assert.Contains("all: hostilities: False instead of True", words);
        Assert.Contains("kr/mfa: kr/mfa: denied certificates: 0A", words);
        Assert.Contains(words, w => w.StartsWith("kr/mfa: kr/mfa: new key kr/mfa/requests-2 (requests), ", StringComparison.Ordinal));
    }

    // ---- a ledger's versions, one after the other ------------------------------------------------------------------------------

    [Fact]
    public void A_key_is_judged_by_the_version_of_its_time_whatever_became_of_it()
    {
        var key = New("kr/mfa/requests-1", SigningKeyUse.Requests);
        var second = Next(a => Of(a, "kr/mfa").SigningKeys.Add(key), "kr/mfa");
        var third = second.Clone();
        Of(third, "kr/mfa").SigningKeys.RemoveAt(1);
        AgreementVersions.Follow(second, third);
        Sign(third, "kr/mfa");
        var history = KeyHistory.Read([Adopted(_first, 0), Adopted(second, 1), Adopted(third, 2)]);
        Assert.Equal([1ul, 2, 3], history.Versions.Select(v => v.Version));
        Assert.Null(history.Key("kr/mfa/requests-1", 1));
        Assert.Equal(
            ("kr/mfa", key),
            (history.Key("kr/mfa/requests-1", 2)!.Value.Owner.Id, history.Key("kr/mfa/requests-1", 2)!.Value.Key)
        );
        Assert.Null(history.Key("kr/mfa/requests-1", 3));
        Assert.Equal(1ul, history.Since("kr/mfa/agreements-1", 3));
        // What waited while a version was taken over was judged by the one before; what came later was not.
        Assert.False(history.IsOver(1, Now.AddDays(1).AddSeconds(60)));
        Assert.True(history.IsOver(1, Now.AddDays(1).AddSeconds(61)));
        Assert.False(history.IsOver(3, Now.AddYears(1)));
        Assert.Equal(2ul, history.Since("kr/mfa/requests-1", 2));
        Assert.Single(history.CheckpointKeys("custody", 3));
    }

    [Fact]
    public void A_history_with_a_version_left_out_swapped_altered_or_written_otherwise_is_broken_at_its_place()
    {
        var second = Next(a => Of(a, "kr/mfa").DeniedCertificates.Add("0A"), "kr/mfa");
        var third = second.Clone();
        Of(third, "kr/mfa").DeniedCertificates.Add("0B");
        AgreementVersions.Follow(second, third);
        Sign(third, "kr/mfa");
        Assert.Equal(3, KeyHistory.Read([Adopted(_first), Adopted(second), Adopted(third)]).Versions.Count());
        Broken(1, AgreementWrong.VersionNotNext, Adopted(_first), Adopted(third));
        Broken(1, AgreementWrong.VersionNotNext, Adopted(_first), Adopted(_first));
        Broken(0, AgreementWrong.SignatureMissing, Adopted(second), Adopted(third));
        var unsigned = second.Clone();
        unsigned.Signatures.Clear();
        Broken(1, AgreementWrong.SignatureMissing, Adopted(_first), Adopted(unsigned), Adopted(third));
        var altered = second.Clone();
        altered.Hostilities = false;
        Broken(1, AgreementWrong.SignatureWrong, Adopted(_first), Adopted(altered), Adopted(third));
        // The same in other bytes would have another digest; a field that is not known may mean anything.
        Broken(1, null, Adopted(_first), Adopted(second) with { Bytes = second.ToByteArray().Concat(new byte[] { 0x70, 0 }).ToArray() });
        Broken(
            1,
            null,
            Adopted(_first),
            Adopted(second) with
            {
                Bytes = second.ToByteArray().Concat(new byte[] { 0xf8, 0x7f, 1 }).ToArray(),
            }
        );
        Broken(1, null, Adopted(_first), Adopted(second) with { Bytes = new byte[] { 0xff } });
    }

    private static void Broken(int index, AgreementWrong? wrong, params AdoptedAgreement[] versions)
    {
        var e = Assert.Throws<KeyHistoryException>(() => KeyHistory.Read(versions));
        Assert.Equal((index, wrong), (e.Index, e.Fault?.Wrong));
    }

    private static AdoptedAgreement Adopted(Agreement agreement, int day = 0) => new(agreement.ToByteArray(), Now.AddDays(day));
}
