using Google.Protobuf.Reflection;
using Ministries.Types.V1;

namespace Ministries.Contracts.Tests;

/// <summary>What the contracts say of sealed fields: what is inside, to whom by default, and what of it a person must give.</summary>
public class SealingTests
{
    private static readonly MessageDescriptor[] Types = [.. Descriptors.Files.SelectMany(f => f.MessageTypes)];

    private static readonly FieldDescriptor[] OfRequests = [.. FieldsOfRequests()];

    private static readonly FieldDescriptor[] OfRecords =
    [
        // GetSealed of a ledger answers with what any request carried.
        .. Types
            .Where(m => m.File.Package != "ministries.ledger.v1")
            .SelectMany(m => m.Fields.InDeclarationOrder())
            .Where(IsSealed)
            .Except(OfRequests),
    ];

    /// <summary>The messages that are sealed in requests.</summary>
    public static IEnumerable<MessageDescriptor> Inside =>
        OfRequests.Select(f => Types.SingleOrDefault(m => m.FullName == Of(f)?.Message)).OfType<MessageDescriptor>().Distinct();

    [Fact]
    public void Every_sealed_field_of_a_request_says_which_message_is_inside_and_to_whom_by_default()
    {
        Assert.True(OfRequests.Length >= 20);
        Assert.All(
            OfRequests,
            field =>
            {
                var declared = Of(field);
                Assert.True(declared is not null, $"{field.FullName}: the option seals");
                Assert.True(Types.Any(m => m.FullName == declared.Message), $"{field.FullName}: there is no {declared.Message}");
                Assert.Contains(SealRecipient.Sender, declared.Recipients);
                Assert.DoesNotContain(SealRecipient.Unspecified, declared.Recipients);
                Assert.Equal(declared.Recipients.Distinct(), declared.Recipients);
                // Its path is in what is sealed, so it must not depend on what else the request holds.
                Assert.False(field.IsRepeated, field.FullName);
            }
        );
    }

    /// <summary>A client finds the field by the message that is sealed.</summary>
    [Fact]
    public void A_request_holds_each_message_in_at_most_one_sealed_field() =>
        Assert.All(
            Descriptors.Files.SelectMany(f => f.Services).SelectMany(s => s.Methods).Select(m => Reached(m.InputType)),
            types =>
            {
                var inside = types.SelectMany(t => t.Fields.InDeclarationOrder()).Where(IsSealed).Select(f => Of(f)!.Message).ToArray();
                Assert.Equal(inside.Distinct(), inside);
            }
        );

    [Fact]
    public void Every_sealed_field_names_its_message_in_its_comment_and_a_record_the_one_of_the_request()
    {
        var comments = CommentsOf(Descriptors.Files);
        Assert.All(OfRequests, f => Assert.Contains($"`{NameOf(Of(f)!)}`", comments[f.FullName]));
        Assert.NotEmpty(OfRecords);
        Assert.All(
            OfRecords,
            f =>
            {
                // What a record shows came with a request of the same service, in a field of the same name.
                var sources = OfRequests.Where(r => r.File.Package == f.File.Package && r.Name == f.Name).Select(r => NameOf(Of(r)!));
                Assert.True(
                    sources.Any(s => comments[f.FullName].Contains($"`{s}`", StringComparison.Ordinal)),
                    $"{f.FullName}: none of {string.Join(", ", sources)} in its comment"
                );
                Assert.Null(Of(f));
            }
        );
    }

    [Fact]
    public void What_is_inside_can_be_sealed_field_by_field() =>
        Assert.All(
            Inside,
            message =>
            {
                // SealedContent.fields has room for 32.
                Assert.InRange(message.Fields.InDeclarationOrder().Count, 1, 32);
                Assert.DoesNotContain(message.Fields.InDeclarationOrder(), f => f.IsMap || f.RealContainingOneof is not null);
                Assert.DoesNotContain(Reached(message), m => m.FullName == Sealed.Descriptor.FullName);
            }
        );

    /// <summary>GC III 17(1).</summary>
    [Fact]
    public void D13_of_an_identity_the_person_must_give_four_data_and_every_other_is_voluntary()
    {
        var fields = PersonIdentity.Descriptor.Fields.InDeclarationOrder();
        Assert.Equal(["name", "rank", "birth_date", "serial_number"], fields.Where(f => DatumOf(f) == Datum.Mandatory).Select(f => f.Name));
        Assert.All(fields.Where(f => DatumOf(f) != Datum.Mandatory), f => Assert.Equal(Datum.Voluntary, DatumOf(f)));
    }

    private static IEnumerable<FieldDescriptor> FieldsOfRequests() =>
        from type in Descriptors
            .Files.SelectMany(f => f.Services)
            .SelectMany(s => s.Methods)
            .SelectMany(m => Reached(m.InputType))
            .Distinct()
        from field in type.Fields.InDeclarationOrder()
        where IsSealed(field)
        select field;

    /// <summary>The types of a message and of all that it holds, however deep.</summary>
    internal static HashSet<MessageDescriptor> Reached(MessageDescriptor from)
    {
        var found = new HashSet<MessageDescriptor>();
        var open = new Stack<MessageDescriptor>([from]);
        while (open.TryPop(out var message))
            if (found.Add(message))
                foreach (var field in message.Fields.InDeclarationOrder().Where(f => f.FieldType == FieldType.Message))
                    open.Push(field.MessageType);
        return found;
    }

    private static bool IsSealed(FieldDescriptor field) =>
        field.FieldType == FieldType.Message && field.MessageType.FullName == Sealed.Descriptor.FullName;

    private static SealDeclaration? Of(FieldDescriptor field) => field.GetOptions()?.GetExtension(OptionsExtensions.Seals);

    private static string NameOf(SealDeclaration declared) => declared.Message[(declared.Message.LastIndexOf('.') + 1)..];

    private static Datum DatumOf(FieldDescriptor field) => field.GetOptions()?.GetExtension(OptionsExtensions.Datum) ?? Datum.Unspecified;

    // The comment of each sealed field, from the protos' text: the comment stands on the lines above it.
    private static Dictionary<string, string> CommentsOf(IEnumerable<FileDescriptor> files)
    {
        var comments = new Dictionary<string, string>();
        foreach (var file in files.Where(f => f.Package.StartsWith("ministries.", StringComparison.Ordinal)))
        {
            var lines = File.ReadAllLines(Path.Combine(Buf.Protos, file.Name));
            var (message, comment) = ("", "");
            foreach (var line in lines)
            {
                if (line.StartsWith("message ", StringComparison.Ordinal))
                    message = line.Split(' ')[1];
                if (line.StartsWith("  //", StringComparison.Ordinal))
                    comment += line[4..];
                else
                {
                    if (line.StartsWith("  ministries.type.v1.Sealed ", StringComparison.Ordinal))
                        comments[$"{file.Package}.{message}.{line.Split(' ')[3]}"] = comment;
                    comment = "";
                }
            }
        }
        return comments;
    }
}
