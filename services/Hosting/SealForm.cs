using Google.Protobuf;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>Checks what is sealed in a request without opening it: that it can be read in one way only and keeps its limits, and then what
/// <see cref="Seals.Check"/> demands.</summary>
public static class SealForm
{
    /// <summary>The refusal of the first sealed field, in the order of the fields' numbers, that is not as it must be; null: all are.
    /// </summary>
    /// <param name="request">The request, whose own form was checked.</param>
    /// <param name="caller">Who sends it.</param>
    /// <param name="permissions">The agreement.</param>
    /// <param name="now">The time at which the recipients' keys must be in force.</param>
    public static Refusal? Check(IMessage request, Participant caller, Permissions permissions, DateTimeOffset now)
    {
        if (!Seals.CanBeIn(request.Descriptor))
            return null;
        var shape = RequestShape.Of(request.Descriptor);
        var carried = new SealCarrier(RequestShape.Text(shape.Case, request), RequestShape.Text(shape.RequestId, request), caller.Id);
        foreach (var place in Seals.WithPaths(request))
        {
            var content = Seals.Read(place.Sealed.Content);
            if (content is null)
                return place.Refuse(Reason.SealMalformed);
            if (Seals.Check(place, content, carried, permissions, now) is { } refusal)
                return refusal;
        }
        return null;
    }
}
