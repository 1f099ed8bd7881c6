using System.CommandLine;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Trust;
using Ministries.Types.V1;
using WholeFile = Ministries.Ledger.WholeFile;

namespace Ministries.Ministry;

/// <summary>The verb <c>agreement</c>: what a version of the agreement changes, who must sign it, and signing it. It calls nobody, so
/// that it can be used where the keys for agreements are kept.</summary>
internal static class AgreementCommand
{
    private static readonly JsonFormatter Formatter = new(JsonFormatter.Settings.Default.WithIndentation());

    public static Command Create()
    {
        var command = new Command("agreement", "The agreement's versions: what each changes, who must sign it, and signing it.")
        {
            AddKey(),
            EndKey(
                "end-key",
                "Ends a key. What it signed before stays valid; what was sealed to it before can still be opened.",
                "valid_until_time"
            ),
            EndKey(
                "revoke-key",
                "Revokes a key that may have been stolen. From then on it is refused, and so is what it signed, unless something "
                    + "dates that before. Nothing more is sealed to it.",
                "revoke_time"
            ),
            AddAuthority(),
            RemoveAuthority(),
            Deny(),
            Official(
                "add-official",
                "Lists a code by which requests may name an official, interpreter or physician of a participant.",
                (listed, code) =>
                {
                    if (listed.Contains(code))
                        return false;
                    listed.Add(code);
                    return true;
                }
            ),
            Official("remove-official", "Removes such a code. New requests can no longer name it.", (listed, code) => listed.Remove(code)),
            Draft(),
            Diff(),
            Sign(),
            Check(),
            Put(),
        };
        foreach (var verb in command.Subcommands)
        {
            verb.Add(Options.Output);
            verb.Add(Options.Json);
        }
        return command;
    }

    private static Command AddKey()
    {
        var (next, of) = (File("next", "The copy of the version in force; it is changed."), Of());
        var use = new Option<string>("--use") { Required = true, Description = "What it signs; or sealing: it opens what is sealed." };
        use.AcceptOnlyFromAmong([.. Uses.Keys, Sealing]);
        var key = new Option<string>("--key")
        {
            Required = true,
            HelpName = "location",
            Description =
                $"The key. {CallCommands.KeyLocation} A file is created if it does not exist; a key for sealing is a file in PEM.",
        };
        var official = new Option<string?>("--official") { Description = "For a key for approvals: the official's pseudonymous id." };
        var command = new Command("add-key", "Lists a key of a participant, valid from now on, and says its id.")
        {
            next,
            of,
            use,
            key,
            official,
        };
        command.SetAction(result =>
            Edit(
                result,
                next,
                agreement =>
                {
                    if (result.GetRequiredValue(use) == Sealing)
                        return ListSealingKey(Find(agreement, result.GetRequiredValue(of)), result.GetRequiredValue(key)).Id;
                    var kind = Uses[result.GetRequiredValue(use)];
                    if (kind == SigningKeyUse.Approvals == string.IsNullOrEmpty(result.GetValue(official)))
                        throw new FormatException("a key for approvals needs --official, and no other key may have it");
                    return Pki.ListKey(
                        agreement,
                        result.GetRequiredValue(of),
                        kind,
                        result.GetRequiredValue(key),
                        DateTimeOffset.UtcNow,
                        result.GetValue(official) ?? "",
                        CallCommands.SecretsFolder
                    ).Id;
                }
            )
        );
        return command;
    }

    private static SealingKey ListSealingKey(Participant owner, string file)
    {
        var publicKey = ByteString.CopyFrom(SealingKeyFile.Make(file));
        if (owner.SealingKeys.FirstOrDefault(k => k.PublicKey == publicKey) is { } known)
            throw new FormatException($"{file} is listed already, as {known.Id}; a key cannot be listed again");
        var number = 1;
        while (owner.SealingKeys.Any(k => k.Id == $"{owner.Id}/sealing-{number}"))
            number++;
        var listed = new SealingKey
        {
            Id = $"{owner.Id}/sealing-{number}",
            PublicKey = publicKey,
            ValidFromTime = DateTimeOffset.FromUnixTimeSeconds(DateTimeOffset.UtcNow.ToUnixTimeSeconds()).ToTimestamp(),
        };
        owner.SealingKeys.Add(listed);
        return listed;
    }

    private static Command EndKey(string name, string description, string end)
    {
        var (next, id) = (
            File("next", "The copy of the version in force; it is changed."),
            new Argument<string>("id") { Description = "The key's id." }
        );
        var at = new Option<DateTimeOffset?>("--at") { Description = "When, such as 2026-11-29T12:00:00Z; not given: now." };
        var command = new Command(name, description) { next, id, at };
        command.SetAction(result =>
            Edit(
                result,
                next,
                agreement =>
                {
                    var named = result.GetRequiredValue(id);
                    var time = (result.GetValue(at) ?? DateTimeOffset.UtcNow).ToTimestamp();
                    // Keys for signatures and keys for sealing have ids of their own each.
                    IMessage[] keys =
                    [
                        .. agreement.Participants.SelectMany(p => p.SigningKeys).Where(k => k.Id == named),
                        .. agreement.Participants.SelectMany(p => p.SealingKeys).Where(k => k.Id == named),
                    ];
                    if (keys.Length != 1)
                        throw new FormatException($"{named} is {(keys.Length == 0 ? "not a key" : "two keys")} of the agreement");
                    keys[0].Descriptor.FindFieldByName(end).Accessor.SetValue(keys[0], time);
                    return named;
                }
            )
        );
        return command;
    }

    private static Command AddAuthority() =>
        OfAuthority(
            "add-authority",
            "Lists a certificate of a participant's authority, beside those that it has.",
            (owner, pem, _) =>
            {
                if (!owner.AuthorityCertificates.Contains(pem))
                    owner.AuthorityCertificates.Add(pem);
            }
        );

    private static Command RemoveAuthority() =>
        OfAuthority(
            "remove-authority",
            "Removes a certificate of a participant's authority. Certificates that it issued are no longer accepted.",
            (owner, pem, file) =>
            {
                if (owner.AuthorityCertificates.FirstOrDefault(c => PemText(c) == pem) is not { } listed)
                    throw new FormatException($"{file} is not a certificate of {owner.Id}'s authorities");
                owner.AuthorityCertificates.Remove(listed);
            }
        );

    private static Command OfAuthority(string name, string description, Action<Participant, string, string> change)
    {
        var (next, of, file) = (
            File("next", "The copy of the version in force; it is changed."),
            Of(),
            File("certificate", "The authority's certificate (PEM).")
        );
        var command = new Command(name, description) { next, file, of };
        command.SetAction(result =>
            Edit(
                result,
                next,
                agreement =>
                {
                    var (owner, path) = (Find(agreement, result.GetRequiredValue(of)), result.GetRequiredValue(file));
                    change(owner, PemOf(path), $"{path}");
                    return $"{owner.AuthorityCertificates.Count} authorities of {owner.Id}";
                }
            )
        );
        return command;
    }

    private static Command Deny()
    {
        var (next, of) = (File("next", "The copy of the version in force; it is changed."), Of());
        var what = new Argument<string>("certificate")
        {
            Description = "The certificate (PEM), or its serial number in hexadecimal.",
            HelpName = "file or serial",
        };
        var command = new Command("deny", "Denies a participant's certificate, which is accepted nowhere from then on.") { next, what, of };
        command.SetAction(result =>
            Edit(
                result,
                next,
                agreement =>
                {
                    var (owner, given) = (Find(agreement, result.GetRequiredValue(of)), result.GetRequiredValue(what));
                    var serial = given;
                    if (System.IO.File.Exists(given))
                    {
                        using var certificate = X509Certificate2.CreateFromPem(System.IO.File.ReadAllText(given));
                        serial = certificate.SerialNumber;
                    }
                    else if (given.Length == 0 || !given.All(char.IsAsciiHexDigit))
                        throw new FormatException($"{given} is neither a file nor a serial number");
                    if (!owner.DeniedCertificates.Contains(serial))
                        owner.DeniedCertificates.Add(serial);
                    return serial;
                }
            )
        );
        return command;
    }

    private static Command Official(string name, string description, Func<IList<string>, string, bool> change)
    {
        var (next, of) = (File("next", "The copy of the version in force; it is changed."), Of());
        var code = new Argument<string>("code")
        {
            Description = "The code of an official, interpreter or physician; never a name.",
            HelpName = "code",
        };
        var command = new Command(name, description) { next, code, of };
        command.SetAction(result =>
            Edit(
                result,
                next,
                agreement =>
                {
                    var (owner, official) = (Find(agreement, result.GetRequiredValue(of)), result.GetRequiredValue(code));
                    if (!change(owner.Officials, official))
                        throw new FormatException($"nothing to change: the codes of {owner.Id} are {string.Join(", ", owner.Officials)}");
                    return string.Join(", ", owner.Officials);
                }
            )
        );
        return command;
    }

    // The use of a key that signs nothing.
    private const string Sealing = "sealing";

    private static readonly Dictionary<string, SigningKeyUse> Uses = new()
    {
        ["requests"] = SigningKeyUse.Requests,
        ["approvals"] = SigningKeyUse.Approvals,
        ["agreements"] = SigningKeyUse.Agreements,
        ["checkpoints"] = SigningKeyUse.Checkpoints,
        ["cosignatures"] = SigningKeyUse.Cosignatures,
    };

    private static Option<string> Of() =>
        new("--of") { Required = true, Description = "The participant, such as kr/mfa or service/custody." };

    private static Participant Find(Agreement agreement, string participant) =>
        agreement.Participants.FirstOrDefault(p => p.Id == participant)
        ?? throw new FormatException($"{participant} is not a participant of the agreement");

    private static string PemOf(string file) => PemText(System.IO.File.ReadAllText(file));

    private static string PemText(string text)
    {
        using var certificate = X509Certificate2.CreateFromPem(text);
        return certificate.ExportCertificatePem();
    }

    private static int Edit(ParseResult result, Argument<string> next, Func<Agreement, string> edit) =>
        Run(
            result,
            () =>
            {
                var agreement = Read(result.GetRequiredValue(next));
                var done = edit(agreement);
                Write(result.GetRequiredValue(next), agreement);
                Say(result, new JsonObject { ["done"] = done }, done);
                return 0;
            }
        );

    private static Command Draft()
    {
        var (previous, next) = (File("previous", "The version in force."), File("next", "The altered copy of it, which is overwritten."));
        var command = new Command(
            "draft",
            "Makes an altered copy the version that follows: its number, its predecessor's digest, no signatures."
        )
        {
            previous,
            next,
        };
        command.SetAction(result =>
            Run(
                result,
                () =>
                {
                    var agreement = Read(result.GetRequiredValue(next));
                    AgreementVersions.Follow(Read(result.GetRequiredValue(previous)), agreement);
                    Write(result.GetRequiredValue(next), agreement);
                    return WriteChanges(result, Read(result.GetRequiredValue(previous)), agreement);
                }
            )
        );
        return command;
    }

    private static Command Diff()
    {
        var (previous, next) = (File("previous", "The version before."), File("next", "The version after it."));
        var command = new Command("diff", "Says in plain words what a version changes, and who must sign it.") { previous, next };
        command.SetAction(result =>
            Run(result, () => WriteChanges(result, Read(result.GetRequiredValue(previous)), Read(result.GetRequiredValue(next))))
        );
        return command;
    }

    private static Command Sign()
    {
        var (next, previous) = (File("next", "The version; the signature is put into it."), Previous());
        var participant = new Option<string>("--as") { Required = true, Description = "The participant that signs, such as kr/mfa." };
        var key = new Option<string>("--key")
        {
            Required = true,
            HelpName = "location",
            Description = $"Its key for agreements. {CallCommands.KeyLocation}",
        };
        var command = new Command("sign", "Signs a version for a participant. Read what it changes first: `agreement diff`.")
        {
            next,
            previous,
            participant,
            key,
        };
        command.SetAction(result =>
            Run(
                result,
                () =>
                {
                    var agreement = Read(result.GetRequiredValue(next));
                    var before = result.GetValue(previous) is { } file ? Read(file) : null;
                    Pki.Sign(
                        before,
                        agreement,
                        result.GetRequiredValue(participant),
                        result.GetRequiredValue(key),
                        CallCommands.SecretsFolder
                    );
                    Write(result.GetRequiredValue(next), agreement);
                    Judge(result, before, agreement);
                    return 0;
                }
            )
        );
        return command;
    }

    private static Command Check()
    {
        var (next, previous) = (File("next", "The version."), Previous());
        var command = new Command("check", "Checks a version as a service does before it accepts it. Exit code 1: it would be refused.")
        {
            next,
            previous,
        };
        command.SetAction(result =>
            Run(
                result,
                () =>
                    Judge(result, result.GetValue(previous) is { } file ? Read(file) : null, Read(result.GetRequiredValue(next)))
                        ? 0
                        : ExitCodes.WasRefused
            )
        );
        return command;
    }

    private static Command Put()
    {
        var (next, current) = (
            File("next", "The version that is signed."),
            File("current", "The file whose place it takes, agreement.json.")
        );
        var command = new Command(
            "put",
            "Checks a version and puts it in the place of the one in force, which is kept beside it under its number, for those who "
                + "come later. Exit code 1: it would be refused."
        )
        {
            next,
            current,
        };
        command.SetAction(result =>
            Run(
                result,
                () =>
                {
                    var file = result.GetRequiredValue(current);
                    var (before, agreement) = (Read(file), Read(result.GetRequiredValue(next)));
                    if (!Judge(result, before, agreement))
                        return ExitCodes.WasRefused;
                    Write(AgreementFile.PathOf(file, before.Version), before);
                    Write(file, agreement);
                    return 0;
                }
            )
        );
        return command;
    }

    private static int WriteChanges(ParseResult result, Agreement before, Agreement agreement)
    {
        var changes = AgreementVersions.Between(before, agreement).ToArray();
        var missing = AgreementVersions.Missing(before, agreement, new HashSet<string>()).ToArray();
        var data = new JsonObject
        {
            ["version"] = agreement.Version,
            ["changes"] = new JsonArray([.. changes.Select(c => new JsonObject { ["what"] = c.What, ["signed_by"] = c.Of })]),
            ["must_sign"] = new JsonArray([.. missing.Select(m => (JsonNode?)m)]),
        };
        Say(
            result,
            data,
            // A party's proposed text must not look like another line of the changes.
            [
                .. changes.Select(c => Terminal.Line($"{(c.Of is { } own ? $"signed by {own}" : "signed by all")}  {c.What}")),
                Terminal.Line($"must sign: {string.Join(", ", missing)}"),
            ]
        );
        return 0;
    }

    private static bool Judge(ParseResult result, Agreement? before, Agreement agreement)
    {
        var fault = AgreementVersions.Check(before, agreement, DateTimeOffset.UtcNow);
        Say(
            result,
            new JsonObject
            {
                ["version"] = agreement.Version,
                ["accepted"] = fault is null,
                ["fault"] = fault?.ToString(),
            },
            fault is null ? $"version {agreement.Version} is signed by all whom it affects" : fault.ToString()!
        );
        return fault is null;
    }

    // The lines are complete, and may be copied into a register, so they are not wrapped.
    private static void Say(ParseResult result, JsonObject data, params IReadOnlyList<string> lines)
    {
        using var connection = Connection.Of(result, readsProfile: false);
        if (Answers.WriteData(connection, data))
            return;
        foreach (var line in lines)
            result.InvocationConfiguration.Output.WriteLine(line);
    }

    private static Argument<string> File(string name, string description) => new(name) { Description = description, HelpName = "file" };

    private static Option<string?> Previous() =>
        new("--previous")
        {
            HelpName = "file",
            Description = "The version before; not given: it is the first, which everybody in it signs.",
        };

    private static int Run(ParseResult result, Func<int> verb)
    {
        try
        {
            // What was asked for is checked before anything is changed.
            using var asked = Connection.Of(result, readsProfile: false);
            return verb();
        }
        // The version can be read but would be refused.
        catch (AgreementRefusedException e) when (e.Fault is not null)
        {
            Say(result, new JsonObject { ["accepted"] = false, ["fault"] = e.Message }, e.Message);
            return ExitCodes.WasRefused;
        }
        catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException or CryptographicException)
        {
            return CallCommands.Failed(result, null, ExitCodes.WrongInput, e.Message);
        }
    }

    private static Agreement Read(string file)
    {
        try
        {
            return AgreementFile.Load(file).Agreement;
        }
        catch (AgreementRefusedException e) when (e.Fault is null)
        {
            throw new FormatException($"{file}: {e.Message}", e);
        }
    }

    // Written atomically, because a service may be reading the file, perhaps as another user.
    private static void Write(string file, Agreement agreement) =>
        WholeFile.Write(
            file,
            Formatter.Format(agreement) + "\n",
            mode: UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead
        );
}
