using System.CommandLine;
using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Collections;
using Google.Protobuf.Reflection;
using Ministries.Gateway;
using Ministries.Keys;
using Ministries.Sealing;
using Ministries.Trust;
using Ministries.Types.V1;
using PlainText = Ministries.Ledger.PlainText;
using PrivateFiles = Ministries.Ledger.PrivateFiles;
using WholeFile = Ministries.Ledger.WholeFile;

namespace Ministries.Ministry;

/// <summary>The verb <c>approve</c>: an official reads a request in a file, and signs it.</summary>
internal static class ApproveCommand
{
    public static Command Create()
    {
        var service = CallCommands.ServiceArgument();
        var method = new Argument<string>("method") { Description = "The method, such as decide-transfer." };
        method.CompletionSources.Add(context => Completion.Approvable(context.ParseResult.GetValue(service)));
        var key = new Option<string>("--key")
        {
            Description = $"Your key. {CallCommands.KeyLocation}",
            HelpName = "location",
            Required = true,
        };
        var office = new Option<string>("--office")
        {
            Description = "The office in which you approve.",
            HelpName = "office",
            Required = true,
        };
        var file = new Option<string>("--json")
        {
            Description = "The file with the request, as --out wrote it; the approval is put into it.",
            HelpName = "file",
            Required = true,
        };
        var command = new Command(
            "approve",
            "Shows an official a request in words, and adds his approval to its file. It calls nobody, and needs of the folder only the "
                + "agreement, which says whose key it is. Afterwards nothing of the request may change."
        )
        {
            service,
            method,
            file,
            key,
            office,
            Options.Yes,
            Options.Profile,
            Options.Folder,
            Options.As,
            Options.Zone,
        };
        CallCommands.SetRun(
            command,
            async (result, connection, cancel) =>
            {
                var (name, wanted) = (result.GetRequiredValue(service), result.GetRequiredValue(method));
                var found = Find(name, wanted);
                var path = result.GetRequiredValue(file);
                var request = TypedVerb.Parse(found.InputType, PlainText.ReadFile(path), path);
                using var official = KeySource.Open(result.GetRequiredValue(key), CallCommands.SecretsFolder);
                var approved = await Approve(
                    connection,
                    name,
                    found,
                    request,
                    official,
                    result.GetRequiredValue(office),
                    result.GetValue(Options.Yes),
                    cancel
                );
                if (approved)
                    WholeFile.Write(path, Contract.Formatter.Format(request) + "\n", mode: PrivateFiles.Mode);
                return approved ? ExitCodes.Done : ExitCodes.Declined;
            }
        );
        return command;
    }

    private static async Task<bool> Approve(
        Connection connection,
        string service,
        MethodDescriptor method,
        IMessage request,
        Signer key,
        string office,
        bool yes,
        CancellationToken cancel
    )
    {
        if (request.Descriptor.FindFieldByNumber(Approvals.Field)?.Accessor.GetValue(request) is not RepeatedField<Approval> approvals)
            throw new FormatException($"{Words.Kebab(method.Name)} has no approvals");
        var permissions = new Permissions(AgreementFile.Trust(connection.AgreementPath, null, connection.Shell.Time.GetUtcNow()).Agreement);
        var (owner, listed) = OwnerOf(key, permissions, connection.Shell.Time.GetUtcNow());
        Judge(connection, service, method, request, approvals, owner, listed, permissions);
        var (asks, demanded) = (!yes && connection.Shell.Asks, permissions.ApprovalsDemanded(Contract.NameOf(method)));
        var screen = asks ? connection.Asking : connection.Error;
        screen.Paragraph(Comments.FirstOf(method), style: Style.Bold);
        new Fields(screen, whole: true).Write(request, 2, "approvals");
        ShowSealed(connection, screen, request, owner);
        screen.Line(new Span("  for: ", Style.Dim), $"{owner.Id}, at {service}");
        screen.Line(new Span("  your key: ", Style.Dim), $"{listed.Id}, of {listed.Official}");
        screen.Line(
            new Span("  approved by: ", Style.Dim),
            $"{approvals.Count} so far; the agreement demands {demanded} beside the acting official"
        );
        var question = $"Approve it as {listed.Official}, in the office {office}?";
        if (asks && !await connection.Ask(question, "nothing was signed", cancel))
            return false;
        cancel.ThrowIfCancellationRequested();
        if (request.Descriptor.FindFieldByNumber(1) is { Name: "request_id" } id && id.Accessor.GetValue(request) is "")
            id.Accessor.SetValue(request, MinistryClient.NewRequestId());
        Approvals.Add(request, permissions.Agreement.TrustDomain, owner, key, office, service);
        screen.Line(new Span("approved", Style.Good), $" by {listed.Official}: {approvals.Count} of {demanded}");
        return true;
    }

    // The sealed content is often the substance of the request. If the participant's keys for sealing are here, the content is shown, and
    // that it was sealed for this request.
    private static void ShowSealed(Connection connection, Screen screen, IMessage request, Participant owner)
    {
        var files = SealingKeyFile.AllIn(Path.Combine(connection.Folder, owner.Id));
        foreach (var place in Seals.WithPaths(request))
        {
            var to = Terminal.Line(string.Join(", ", place.Sealed.Recipients));
            if (!place.Sealed.Recipients.Contains(owner.Id) || files.Length == 0)
            {
                screen.Paragraph($"{place.Path} is sealed to {to}: what it says is not shown here.", 2, Style.Warning);
                continue;
            }
            try
            {
                var message = Open(place, request, owner, files);
                screen.Paragraph($"{place.Path}, sealed to {to}:", 2, Style.Dim);
                SealedMessages.Write(screen, message, null, 4);
            }
            catch (Exception e)
                when (e is SealException or FormatException or IOException or UnauthorizedAccessException or CryptographicException)
            {
                screen.Paragraph($"{place.Path} is sealed to {to}, and cannot be shown: {e.Message}", 2, Style.Warning);
            }
        }
    }

    private static IMessage Open(SealedPlace place, IMessage request, Participant owner, string[] files)
    {
        var type = Seals.MessageNamed(place.Declared.Message) ?? throw new FormatException("the contract declares nothing there");
        // None of it is taken from the content, which could be that of another request: whoever reads it later opens none of that.
        var expected = new SealContext(Contract.TextOf(request, "case"), Contract.TextOf(request, "request_id"), place.Path, owner.Id);
        var identities = new List<SealingIdentity>();
        try
        {
            identities.AddRange(files.Select(f => SealingKeyFile.Read(f, owner, CallCommands.SecretsFolder)));
            return new Opener(owner.Id, identities).Open(type, place.Sealed, expected);
        }
        finally
        {
            foreach (var identity in identities)
                identity.Dispose();
        }
    }

    private static MethodDescriptor Find(string service, string method) =>
        Contract.MethodsOf(service).FirstOrDefault(m => Words.Kebab(m.Name) == method)
        ?? Contract.Find(service, method)
        ?? throw new FormatException(
            $"{service} has no method {method}"
                + (
                    Suggestion.Nearest(method, Contract.MethodsOf(service).Select(m => Words.Kebab(m.Name))) is { } near
                        ? $"; did you mean {near}?"
                        : ""
                )
        );

    private static (Participant Owner, SigningKey Key) OwnerOf(Signer key, Permissions permissions, DateTimeOffset now)
    {
        var bytes = ByteString.CopyFrom(key.PublicKey.Span);
        var found = permissions
            .Agreement.Participants.SelectMany(p => p.SigningKeys.Where(k => k.PublicKey == bytes).Select(k => (Owner: p, Key: k)))
            .FirstOrDefault();
        if (found.Key is null)
            throw new FormatException("the agreement lists no such key");
        if (found.Key.Use != SigningKeyUse.Approvals)
            throw new FormatException($"{found.Key.Id} of {found.Owner.Id} is no key for approvals");
        return RequestSignatures.IsValidAt(found.Key, now)
            ? found
            : throw new FormatException($"{found.Key.Id} is not in force now: it ended or was revoked");
    }

    // Finds faults that the services would refuse, before an official signs.
    private static void Judge(
        Connection connection,
        string service,
        MethodDescriptor method,
        IMessage request,
        RepeatedField<Approval> approvals,
        Participant owner,
        SigningKey key,
        Permissions permissions
    )
    {
        if (connection.ValueOf("as", Options.As) is { Length: > 0 } caller && caller != owner.Id)
            throw new FormatException(
                $"the key is {owner.Id}'s, and {caller} would send the request: an approval counts only for its own participant"
            );
        // Texts that the contract does not allow could also pose as what is shown beside them.
        if (Limits.Faults(request, new HashSet<string> { "request_id" }) is { Count: > 0 } faults)
            throw new FormatException(string.Join('\n', faults.Select(f => $"{f.Path} {f.What}")));
        if (request.Descriptor.FindFieldByName("actor")?.Accessor.GetValue(request) is Actor actor && actor.Official == key.Official)
            throw new FormatException($"{key.Official} acts in this request, and his own approval does not count");
        if (approvals.FirstOrDefault(a => a.Official == key.Official) is { } before)
            throw new FormatException($"{before.Official} approved it already");
        // A change since an earlier approval makes that one wrong, and so the whole request.
        var (_, refusal) = Approvals.Check(
            approvals,
            Contract.NameOf(method),
            request.ToByteArray(),
            owner,
            permissions,
            connection.Shell.Time.GetUtcNow(),
            service
        );
        if (refusal is not null)
            throw new FormatException(
                $"an approval that is in the file does not count ({refusal.Reason}): the request was changed since, or it is another participant's"
            );
    }
}
